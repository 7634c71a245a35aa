"""`longshore state`: save, restore and move the state of a stopped Longshore."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.common.config.settings import default_state_dir

PANEL = "Query and control"

StateDir = Annotated[
    str,
    typer.Option(
        "--state-dir",
        envvar="LONGSHORE_STATE_DIR",
        help="Folder of the state.",
        show_default="$XDG_STATE_HOME/longshore",
        default_factory=default_state_dir,
    ),
]

app = typer.Typer()
state_app = typer.Typer(no_args_is_help=True, help="Save, restore and move the state of a stopped Longshore.")
app.add_typer(state_app, name="state", rich_help_panel=PANEL)


@state_app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write. It holds secrets: its mode is 0600.")],
    state_dir: StateDir,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="LONGSHORE_HOST",
            help="Name of this host on the bus.",
            show_default="this host's name",
            default_factory=socket.gethostname,
        ),
    ],
) -> None:
    """Save decisions, pins, quarantine, identity, tokens, options of replicas, the log and snapshots into one file.

    The options hold the values of -e, --env-file and secrets, so keep the file as safe as those. Longshore must be
    stopped; its replicas may run. Example: longshore state backup web-1.state
    """
    from services.supervisor.archive import backup as save

    manifest = save(state_dir, file, host)
    if not any(name.startswith("bus/jetstream/") for name in manifest.files):
        output.progress("the log and the decisions are on the servers of --nats-url, and not in this file")
    typer.echo(f"{file}: {len(manifest.files)} files of {host}")


@state_app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `longshore state backup` wrote.")],
    state_dir: StateDir,
) -> None:
    """Make a state directory of a backup. Checks every file in it first.

    The old Longshore must not run any more: two with one identity would replace each other's containers.
    """
    from services.supervisor.archive import restore as unpack

    manifest = unpack(file, state_dir)
    typer.echo(f"{state_dir}: restored; start Longshore with --host {manifest.host}, the name that its decisions have")


@state_app.command("move")
def move(
    to: Annotated[str, typer.Argument(metavar="FOLDER", help="New state directory; it must not exist.")],
    state_dir: StateDir,
) -> None:
    """Move the state directory on this host, with replicas that run. A link stays in the old place.

    Longshore must be stopped. Example: longshore state move --state-dir /var/lib/longshore /srv/longshore
    """
    from services.supervisor.archive import move as rename

    rename(state_dir, to)
    typer.echo(f"{to}: moved; start Longshore with --state-dir {to}")
