"""Commands made from settings: every field of a settings struct is an option, a LONGSHORE_* variable and a toml key."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import msgspec
import typer

from services.common.config.option import PANELS, Option
from services.common.config.settings import Settings, check_common, default, handed

S = TypeVar("S", bound=Settings)
Body = Callable[[dict[str, Any]], None]


class Field(msgspec.Struct, frozen=True):
    """A field of a settings struct, `type` without its metadata."""

    name: str
    type: Any
    default: Any
    option: Option


Fields = dict[str, Field]

COMMANDS: dict[str, Fields] = {}
"""The options of each command that longshore.toml may set."""


def fields_of(*kinds: type[Settings], omit: tuple[str, ...] = ()) -> Fields:
    """Return the fields of several settings structs, each name once, panel after panel as they are declared."""
    fields = {field.name: field for kind in kinds for field in msgspec.structs.fields(kind) if field.name not in omit}
    found = [_field(field) for field in fields.values()]
    return {field.name: field for field in sorted(found, key=lambda field: PANELS.index(field.option.panel))}


def _field(field: msgspec.structs.FieldInfo) -> Field:
    bare, option = get_args(field.type)
    return Field(field.name, bare, default(field), option)


def command(
    app: typer.Typer,
    name: str,
    *kinds: type[Settings],
    omit: tuple[str, ...] = (),
    own: Sequence[inspect.Parameter] = (),
    **extra: Any,
) -> Callable[[Body], Body]:
    """Decorate a function of one dict, the values of all options, as a command of `app`.

    `own`: parameters of this command that are not settings.
    """
    COMMANDS[name] = fields_of(*kinds, omit=omit)
    return _registered([*own, *parameters(COMMANDS[name])], app.command(name, **extra))


def _registered(shown: list[inspect.Parameter], add: Callable[[Any], Any]) -> Callable[[Body], Body]:
    def register(function: Body) -> Body:
        def run(**values: Any) -> None:
            from services.common import log

            log.configure(values["log_format"], values["log_level"])
            function(values)

        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined] # typer reads it through inspect
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        add(run)
        return function

    return register


def group(
    app: typer.Typer, name: str, *kinds: type[Settings], omit: tuple[str, ...], own: Sequence[inspect.Parameter]
) -> Callable[[Body], Body]:
    """Decorate a function that `app` calls when the command line names none of its commands."""
    COMMANDS[name] = fields_of(*kinds, omit=omit)
    return _registered([*own, *parameters(COMMANDS[name])], app.callback(invoke_without_command=True))


def build(kind: type[S], values: dict[str, Any], **fixed: Any) -> S:
    """Build the settings of one service from all options. Raises SettingsError for an invalid value."""
    names = {field.name for field in msgspec.structs.fields(kind)}
    given = {name: value for name, value in (values | handed(os.environ)).items() if name in names} | fixed
    if "state_dir" in given:  # hooks and replicas run in other folders, where a relative path would differ
        given["state_dir"] = str(Path(given["state_dir"]).absolute())
    settings = kind(**given)
    check_common(settings)
    return settings


def parameters(fields: Fields) -> list[inspect.Parameter]:
    """Return the fields as keyword parameters for typer."""
    return [_parameter(field) for field in fields.values()]


def _parameter(field: Field) -> inspect.Parameter:
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=_annotation(field)
    )


def _annotation(field: Field) -> Any:
    name, option = field.name, field.option
    variables = [f"LONGSHORE_{name.upper()}"] if option.variables is None else [*option.variables]
    shown = typer.Option(
        f"--{name.replace('_', '-')}",
        *option.short,
        envvar=variables,
        help=option.help,
        rich_help_panel=option.panel,
        show_default=option.shown_default or True,
    )
    return Annotated[field.type, shown]
