"""`longshore bus` and what is below it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from services.bus.export import Way
from services.bus.settings import BusSettings
from services.cli.commands import SERVICES
from services.cli.options import build, command, group
from services.common.config.settings import Settings

FOR_A_SERVER = tuple(name for name in Settings.__struct_fields__ if name.startswith("nats_"))
CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
app = typer.Typer()
bus_app = typer.Typer(invoke_without_command=True, no_args_is_help=False)
app.add_typer(bus_app, name="bus", rich_help_panel=SERVICES)


@group(bus_app, "bus", BusSettings, omit=FOR_A_SERVER, own=[CONTEXT])
def bus(values: dict[str, Any]) -> None:
    """Start the embedded bus: nats-server with JetStream on loopback. Subcommands prepare a running nats-server."""
    from services.bus.service import run

    if values["context"].invoked_subcommand is None:
        run(build(BusSettings, values))


@bus_app.command("config")
def bus_config(
    out: Annotated[Path, typer.Option("--out", help="Folder for the secrets of the accounts; existing ones are kept.")],
    auth: Annotated[Way, typer.Option("--auth", help="How accounts sign in.")] = "nkey",
    host: Annotated[list[str], typer.Option("--host", help="Host that gets accounts of its own. Repeatable.")] = [],  # noqa: B006 - typer reads it only
) -> None:
    """Print accounts with least permissions for a running nats-server, and how to use them.

    Example: longshore bus config --out /etc/longshore/nats > longshore.conf
    """
    from services.bus.export import export

    typer.echo(export(out, auth, host), nl=False)


@command(bus_app, "setup", BusSettings, omit=("nats_server", "host", "spool_limit"))
def bus_setup(values: dict[str, Any]) -> None:
    """Create streams, buckets and object stores on a running nats-server, or change their limits.

    Example: longshore bus setup --nats-url nats://nats-1:4222,nats://nats-2:4222 --nats-replicas 3 --max-age 30d
    """
    from services.bus.setup import run

    run(build(BusSettings, values))
