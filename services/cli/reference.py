"""docs/reference/cli.md, generated from the command line itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from services.cli.app import app

HEADER = """# Command line

Generated from the code by `make docs`. Every option can also be set by its variable, or by its name in
`longshore.toml`; a flag wins over a variable, a variable over the file. The variable of a repeatable option
holds its values, separated by blanks. Data goes to stdout, messages to stderr. Exit codes: 0 success, 1 failure,
2 wrong usage, 3 a finding of `longshore status --check`, 141 when the reader of the output is gone
(`longshore events | head -1`). `longshore exec` and `longshore run` exit with the code of their command.
"""


def markdown() -> str:
    """Return the page."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [HEADER, "## longshore\n", _options(group)]
    for name, command in _commands(group):
        parts += [f"## longshore {name}\n", inspect.cleandoc(command.help or "") + "\n", _options(command)]
    return "\n".join(parts)


def _commands(group: TyperGroup, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command with its name, followed by its subcommands."""
    context = typer.Context(group)
    for name in group.list_commands(context):
        command: Any = group.get_command(context, name)
        yield prefix + name, command
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ")


def _options(command: Any) -> str:
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    head = ["| option | variable | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = (
        parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(f"`{name}`" for name in names)
    )
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    variable = ", ".join(f"`{name}`" for name in variables)
    return f"| {shown} | {variable} | {_default(parameter)} | {parameter.help or ''} |"


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default in (None, "", [], ()) or callable(parameter.default):
        return ""
    if isinstance(parameter.default, bool):
        return "yes" if parameter.default else "no"
    return f"`{parameter.default}`"
