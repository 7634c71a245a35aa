"""`longshore config`: the options of a file, checked and shown."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer
from typer.main import get_command

from services.cli import CONFIG_FILE, config, output
from services.cli.options import COMMANDS
from services.common.config.settings import SECRET
from services.common.errors import LongshoreError, SettingsError

PANEL = "Query and control"
MASK = "********"
SECRETS = re.compile(r"password|secret|(^|_)env(_|$)|_token$")
"""Names of options that hold secrets, beside those of SECRET."""

app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True, help="Check the options file, and show which options take effect.")
app.add_typer(config_app, name="config", rich_help_panel=PANEL)


@config_app.command("check")
def check(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Options file.")] = CONFIG_FILE,
) -> None:
    """Check an options file without starting anything: one line for each mistake, exit code 1 if there is one.

    Variables of the environment are not taken into account.
    """
    from services.cli.app import options_of_all

    found: list[SettingsError] = []
    commands = options_of_all()
    values = {name: field.default for name, field in commands["up"].items()}
    values |= config.defaults(file, commands, found.append)["up"]
    names: list[str] = []
    if config.has_applications(file):
        from services.cli.commands.all_in_one import plan_of

        try:
            names = [one.app for one in plan_of(file, values, found.append).deployers]
        except SettingsError as error:
            found.append(error)
    mistakes = list(dict.fromkeys(map(str, found)))
    for text in mistakes:
        output.progress(text)
    if mistakes:
        raise LongshoreError(f"{file}: {len(mistakes)} mistakes; nothing was started")
    typer.echo(f"{file}: no mistake; applications: {', '.join(names) or 'none'}")


@config_app.command("show", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def show(
    context: typer.Context,
    command: Annotated[str, typer.Argument(metavar="[COMMAND]", help="A command, such as server.")] = "up",
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTIONS OF COMMAND]...", help="Options as the command gets them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show options that have their default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Show the values that take effect for a command, and where each comes from: option, variable, file, default.

    Values that may hold secrets are masked. Example: longshore config show --all -- server --port 8080
    """
    rows = [row for row in _rows(context, command, list(words or [])) if everything or row["from"] != "default"]
    if as_json:
        output.print_json(rows)
    else:
        output.print_table(["APP", "OPTION", "VALUE", "FROM"], [[str(value) for value in row.values()] for row in rows])


def _rows(context: typer.Context, name: str, words: list[str]) -> list[dict[str, Any]]:
    from services.cli.app import options_of_all
    from services.cli.text.suggestions import did_you_mean

    commands = options_of_all()
    if name not in commands:
        raise SettingsError(f"{name}: no command with options in a file{did_you_mean(name, commands)}")
    top = context.find_root()
    file = top.params.get("config_file") or ""
    found = config.defaults(file, commands).get(name, {})
    group: Any = get_command(_root())
    command = group.get_command(top, name)
    made = command.make_context(name, words, parent=top, default_map=found)
    file = made.params.get("file", file)  # of `up`, which reads it in place of the usual one
    rows = [_row("", key, made.params[key], _source(made, key, file)) for key in COMMANDS[name] if key in made.params]
    return rows + (_of_applications(file) if name == "up" else [])


def _root() -> typer.Typer:
    from services.cli.app import app as root

    return root


def _of_applications(file: str) -> list[dict[str, Any]]:
    from services.cli.commands.all_in_one import APP, with_runtime

    rows = []
    for name, table in config.applications(file, APP).items():
        for key, field in APP.items():
            is_set = key in table and key != "app"
            where = _in_file(file, name, key) if is_set else "default"
            rows.append(_row(name, key, with_runtime(table).get(key, field.default), where))
    return rows


def _row(app_name: str, key: str, value: Any, source: str) -> dict[str, Any]:
    is_secret = key in SECRET or SECRETS.search(key)
    shown = MASK if is_secret and value else value
    text = " ".join(map(str, shown)) if isinstance(shown, list) else str(shown)
    return {"app": app_name, "option": key.replace("_", "-"), "value": text, "from": source}


def _source(context: Any, key: str, file: str) -> str:
    source = context.get_parameter_source(key)
    kind = source.name if source else "DEFAULT"
    if kind == "COMMANDLINE":
        return "option"
    if kind == "ENVIRONMENT":
        return "variable " + _variable(context, key)
    return _in_file(file, "", key) if kind == "DEFAULT_MAP" else "default"


def _variable(context: Any, key: str) -> str:
    (parameter,) = (one for one in context.command.params if one.name == key)
    names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
    return next((name for name in names if name in os.environ), names[0])


def _in_file(file: str, app_name: str, key: str) -> str:
    number = config.line_of(file, app_name, key)
    return f"{file or CONFIG_FILE} line {number}" if number else file or CONFIG_FILE
