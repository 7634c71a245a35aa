"""The typer application. It makes a command when that is called: a service loads nothing of the others."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from services.cli import CONFIG_FILE
from services.common.version import VERSION

MODULES = {
    **dict.fromkeys(("server", "container"), "commands.all_in_one"),
    **{name: f"commands.{name}" for name in ("proxy", "deployer", "health", "gateway")},
    "up": "commands.all_in_one",
    "demo": "commands.demo",
    **{name: f"queries.{name}" for name in ("status", "events")},
    **dict.fromkeys(("deploy", "rollback", "pause", "resume", "retry", "abort"), "commands.control"),
    **dict.fromkeys(("restart", "scale", "stop", "start", "drain", "remove"), "commands.control"),
    "logs": "commands.replica_logs",
    **dict.fromkeys(("exec", "run"), "commands.replica_commands"),
    **dict.fromkeys(("history", "diff"), "queries.history"),
    **dict.fromkeys(("replay", "export", "import"), "logs"),
    "verify": "verify",
    "bus": "commands.bus",
    "config": "commands.config",
    "state": "commands.state",
}
"""Where each command is, in the order of the help."""


ASKED = {"help": "--help", "version": "--version"}


class Commands(TyperGroup):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(MODULES)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return a command. `help` and `version` are words that people try: the error names the option."""
        if option := ASKED.get(args[0]) if args else None:
            ctx.fail(f"No such command '{args[0]}'. Use `longshore {option}`")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command. For an unknown name all are loaded, so that the error can propose one."""
        for name in (cmd_name,) if cmd_name in MODULES else MODULES:
            if name not in self.commands:
                self.commands[name] = _load(name)
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    """Return the command that its module registers under this name."""
    module: typer.Typer = import_module(f".{MODULES[name]}", __package__).app
    alone = typer.Typer()
    alone.registered_commands = [command for command in module.registered_commands if command.name == name]
    alone.registered_groups = [group for group in module.registered_groups if group.name == name]
    return get_group(alone).commands[name]


app = typer.Typer(
    name="longshore",
    cls=Commands,
    help="Delivers releases to a host, as containers or processes, and proves what happened.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def options_of_all() -> dict[str, Any]:
    """Return the options of every command, for a file that may set any of them."""
    from services.cli.options import COMMANDS

    for module in dict.fromkeys(MODULES.values()):
        import_module(f".{module}", __package__)
    return COMMANDS


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longshore {VERSION}")
        raise typer.Exit


@app.callback()
def longshore(
    context: typer.Context,
    config_file: Annotated[
        str, typer.Option("--config", envvar="LONGSHORE_CONFIG", help="Options file.", show_default=CONFIG_FILE)
    ] = "",
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Delivers releases to a host, as containers or processes, and proves what happened.

    Every option can also be set by a variable (LONGSHORE_DRAIN_TIME=60) or in longshore.toml (drain-time = 60);
    a flag wins over a variable, a variable over the file.
    """
    if context.invoked_subcommand == "config":
        return  # it reads the file itself, and lists every mistake in it
    if config_file != os.devnull and (config_file or Path(CONFIG_FILE).exists()):  # a supervised service has no file
        from services.cli import config

        context.default_map = config.defaults(config_file, options_of_all())
