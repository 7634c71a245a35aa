"""The verbs: queries and commands to a running Longshore."""

from __future__ import annotations

import asyncio
import getpass
import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, get_args

import typer

from services.cli import output
from services.cli.completion import ARGUMENTS
from services.cli.options import COMMANDS, build, fields_of, parameters
from services.client.client import Target, connect
from services.common import log

PANEL = "Query and control"
OF_SERVICES = ("nats_replicas", "max_age", "max_bytes", "spool_limit", "log_format", "log_level")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Verb = Callable[..., Coroutine[Any, Any, None]]

_VERBS: list[Verb] = []


def verb(function: Verb) -> Verb:
    """Register a verb: a coroutine of a Client, or of a Target if it connects by itself, and of its own options.

    `registered` adds the options of the bus.
    """
    _VERBS.append(function)
    return function


def registered(module: str) -> typer.Typer:
    """Return the verbs of a module as an application."""
    app = typer.Typer()
    for function in _VERBS:
        if function.__module__ == module:
            name = function.__name__.rstrip("_")
            COMMANDS[name] = fields_of(Target, omit=OF_SERVICES)
            app.command(name, rich_help_panel=PANEL)(_command(name, function))
    return app


def _command(name: str, function: Verb) -> Callable[..., None]:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    common = parameters(COMMANDS[name])
    for parameter in (*own, *common):
        if complete := ARGUMENTS.get(parameter.name):
            get_args(parameter.annotation)[1].autocompletion = complete

    def run(**values: Any) -> None:
        log.configure("text", "warning")
        mine = {parameter.name: values[parameter.name] for parameter in own}
        with output.delivered():
            asyncio.run(_called(function, build(Target, values), mine))

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *common)]
    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined] # typer reads it through inspect
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    return run


async def _called(function: Verb, target: Target, values: dict[str, Any]) -> None:
    if "target" in inspect.signature(function).parameters:
        await function(target, **values)
        return
    async with connect(target) as client:
        await function(client, **values)


def me() -> str:
    """Return the name of the user, who is recorded with a command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
