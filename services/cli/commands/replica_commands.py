"""`longshore exec` and `longshore run`: commands in a replica, and one-off tasks beside the replicas."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated

import typer

from schemas.output import STDERR, Execute, OutputRequest, RunTask, output
from services.cli import terminal
from services.cli.output import progress
from services.cli.verbs import me, registered, verb
from services.client.client import Client
from services.common import tasks
from services.common.errors import SettingsError
from services.common.streaming.messages import End
from services.common.streaming.reader import Reader

Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Pass standard input on to the command.")]
Terminal = Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal.")]


@verb
async def exec_(
    client: Client,
    replica: Annotated[str, typer.Argument(help="The replica's id, as `longshore status` shows it.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
    interactive: Interactive = False,
    tty: Terminal = False,
) -> None:
    """Run a command in a running replica; exit with its exit code.

    In a container, or in the folder and with the environment of a process.
    """
    term, rows, columns = _terminal(tty)
    await _run(client, Execute(replica, command, interactive, term, rows, columns, me()), interactive, tty)


@verb
async def run(
    client: Client,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
    interactive: Interactive = False,
    tty: Terminal = False,
) -> None:
    """Run a one-off task in the current release, with the application's environment; exit with its exit code.

    In a container of its own, which is removed afterwards, or as a process in the folder of the release. It ends with
    this command line.
    """
    term, rows, columns = _terminal(tty)
    await _run(client, RunTask(command, interactive, term, rows, columns, me()), interactive, tty)


def _terminal(wanted: bool) -> tuple[str, int, int]:
    """Return the kind and size of the terminal. Raises SettingsError if there is none."""
    if not wanted:
        return "", 0, 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError("--tty: standard input and output are not a terminal; drop it")
    return os.environ.get("TERM") or "xterm", *terminal.size()


async def _run(client: Client, request: OutputRequest, interactive: bool, tty: bool) -> None:
    reader = await client.read_output(request)
    try:
        # Raw without input would take Ctrl-C from the user and pass it to no one.
        with _resizes(reader) if tty else nullcontext(), terminal.raw() if tty and interactive else nullcontext():
            end = await (_fed(reader) if interactive else _copied(reader))
    finally:
        await reader.close()
    if end.reason:
        progress(f"longshore: {end.reason}")
    if end.code:
        raise typer.Exit(end.code)


@contextlib.contextmanager
def _resizes(reader: Reader) -> Iterator[None]:
    """Pass the size of the terminal on whenever it changes."""
    sending: set[asyncio.Task[None]] = set()

    def resized(rows: int, columns: int) -> None:
        task = asyncio.get_running_loop().create_task(reader.write(rows=rows, columns=columns))
        sending.add(task)
        task.add_done_callback(sending.discard)

    with terminal.resizes(resized):
        yield


async def _fed(reader: Reader) -> End:
    """Copy standard input to the command and its output back, and return its end. Raises BusError if either fails."""
    feeding = terminal.feed(lambda data: reader.write(data, is_end=not data))
    copying = asyncio.create_task(_copied(reader), name="output")
    try:
        await asyncio.wait((feeding, copying), return_when=asyncio.FIRST_COMPLETED)
        if feeding.done() and not copying.done():
            feeding.result()
        return await copying
    finally:
        await tasks.cancel(feeding, copying)


async def _copied(reader: Reader) -> End:
    """Copy the output of the command, and return its end."""
    async for item in reader.read():
        if isinstance(item, End):
            return item
        source, data = output(item)
        await asyncio.to_thread(_print, source, data)
    return End(1, "the output has no end")


def _print(source: int, data: bytes) -> None:
    stream = (sys.stderr if source == STDERR else sys.stdout).buffer
    stream.write(data)
    stream.flush()


app = registered(__name__)
