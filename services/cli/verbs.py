"""The verbs: queries and commands to a running Longshore."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
import typer

from schemas import subjects
from schemas.events import Event
from services.cli import output
from services.cli.log_start import warn_if_truncated
from services.cli.options import COMMANDS, build, fields_of, parameters
from services.cli.overview import AppView, overview
from services.client.client import Client, LoggedEvent, Target, connect
from services.common import log
from services.common.errors import SettingsError

PANEL = "Query and control"
TIMES = ("sent",)
"""Fields of events that are unix times, besides `time`, which begins the line."""
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


@verb
async def status(client: Client, as_json: Json = False) -> None:
    """Show the applications of a host: release, replicas, health, routes."""
    if client.target.app:
        await client.app()
    apps = await overview(client)
    if as_json:
        output.print_json(apps)
        return
    if not apps:
        output.progress(f"no application runs on {client.target.host}")
    for app in apps:
        typer.echo(_headline(app))
        output.print_table(
            ["REPLICA", "RELEASE", "ADDRESS", "HEALTH", "ROUTED"],
            [(one.id, one.release, one.address, one.health, one.routed) for one in app.replicas],
        )


@verb
async def events(
    client: Client,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new events as they are recorded.")] = False,
    start: Annotated[int, typer.Option("--start", help="Stream sequence of the first event.")] = 1,
    service: Annotated[str, typer.Option("--service", help="Only events of this service.", show_default="all")] = "*",
    as_json: Json = False,
) -> None:
    """Print the events of the log; with --follow, new ones too."""
    if start < 1:
        raise SettingsError(f"--start {start}: the first message of a log is 1; use 1 or more")
    if service != "*" and service not in subjects.SERVICES:
        raise SettingsError(f"--service {service!r}: known are {', '.join(subjects.SERVICES)}")
    await warn_if_truncated(client.bus, start)
    until = None if follow else await client.last_sequence()
    async for recorded in client.events(start, service, client.target.app or "*", until):
        if as_json:
            output.print_json([_as_object(recorded)])
        else:
            typer.echo(as_line(recorded))


def _headline(app: AppView) -> str:
    notes = [f"release {app.release or 'none yet'}", f"ports {', '.join(map(str, app.ports)) or 'none'}"]
    if app.pinned:
        notes.append(f"pinned to {app.pinned}")
    if app.paused:
        notes.append("paused")
    if app.stopped:
        notes.append("stopped until `longshore start`")
    if app.scaled is not None:
        notes.append(f"scaled to {app.scaled}")
    if app.failed_options:
        notes.append(f"a change of options failed, the options before it serve ({app.failed_options})")
    notes += [f"quarantined {release} ({reason})" for release, reason in app.quarantined.items()]
    return f"{app.app}: {'; '.join(notes)}"


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def _as_object(recorded: LoggedEvent) -> dict[str, Any]:
    envelope = {name: getattr(recorded, name) for name in ("sequence", "service", "host", "app")}
    return {**envelope, "event": type(recorded.event).__name__, **_fields(recorded.event)}


def as_line(recorded: LoggedEvent) -> str:
    event = recorded.event
    details = " ".join(f"{name}={_shown(name, value)}" for name, value in _fields(event).items() if name != "time")
    return f"{output.clock(event.time)} {recorded.service}/{recorded.app} {type(event).__name__} {details}"


def _shown(name: str, value: Any) -> str:
    """Return a field's value: a time as date and time, other numbers in full, a text with blanks in quotes."""
    if name in TIMES:
        value = output.clock(value) if value else ""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return msgspec.json.encode(value).decode() if isinstance(value, str) and (" " in value or not value) else str(value)


app = registered(__name__)
