"""`longshore logs`: what replicas print."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from schemas.output import Line, ReadLogs, lines
from services.cli.verbs import Json, me, registered, verb
from services.client.client import Client
from services.common.errors import LongshoreError, SettingsError
from services.common.streaming.messages import End
from services.replay.log.log_range import parse_duration, parse_position

COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
"""Those of a terminal that can be read on dark and on light; the same ones that `docker compose logs` uses."""


@verb
async def logs(
    client: Client,
    replicas: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REPLICA]...", help="Ids, as `longshore status` shows them.", show_default="all that run"
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with what is printed from now on.")] = False,
    since: Annotated[
        str, typer.Option("--since", help="Only lines of the last 10m, 2h, …, or since a time.", show_default="all")
    ] = "",
    tail: Annotated[int, typer.Option("--tail", help="Most lines of each replica; -1: all.", show_default="all")] = -1,
    previous: Annotated[
        bool, typer.Option("--previous", help="The replica that ended before, in the same slot.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Begin each line with its time.")] = False,
    as_json: Json = False,
) -> None:
    """Print the output of replicas, also of some that have ended.

    What several replicas have printed is merged by time. With --follow and without names, replicas that start later are
    followed as well.
    """
    if tail < -1:
        raise SettingsError(f"--tail {tail}: use a number of lines, or -1 for all")
    moment, ago = _since(since)
    wanted = ReadLogs(replicas or [], moment, ago, tail, follow, previous, me())
    reader = await client.read_output(wanted)
    show = _as_json if as_json else _Text(timestamps, has_names=len(wanted.replicas) != 1)
    try:
        async for item in reader.read():
            if isinstance(item, End):
                if item.code:
                    raise LongshoreError(item.reason)
                return
            await asyncio.to_thread(_print, lines(item), show)  # a reader of the output that waits stops nothing else
    finally:
        await reader.close()


def _since(text: str) -> tuple[float, float]:
    """Return a time (unix seconds) and a duration, one of which is 0, from 10m or 2026-11-21T14:05."""
    if not text:
        return 0.0, 0.0
    if text[0].isdigit() and not any(sign in text for sign in "-:"):
        return 0.0, parse_duration("--since", text)
    return parse_position("--since", text).time or 0.0, 0.0


def _print(found: list[Line], show: Callable[[Line], str]) -> None:
    sys.stdout.buffer.write(b"".join(show(line).encode(errors="surrogateescape") for line in found))
    sys.stdout.buffer.flush()


def _as_json(line: Line) -> str:
    record = {
        "replica": line.replica,
        "time": line.time,
        "stream": "stderr" if line.is_error else "stdout",
        "line": line.text.decode(errors="replace"),
    }
    return msgspec.json.encode(record).decode() + "\n"


class _Text:
    """Lines for people: as they are for one replica, with the names in front for several."""

    def __init__(self, timestamps: bool, has_names: bool) -> None:
        self._timestamps = timestamps
        self._has_names = has_names
        self._colours: dict[str, str] = {}

    def __call__(self, line: Line) -> str:
        when = f"{_clock(line.time)} " if self._timestamps else ""
        return f"{self._name(line.replica)}{when}{line.text.decode(errors='surrogateescape')}\n"

    def _name(self, replica: str) -> str:
        if not self._has_names:
            return ""
        colour = self._colours.setdefault(replica, COLOURS[len(self._colours) % len(COLOURS)])
        return f"\033[{colour}m{replica} |\033[0m " if sys.stdout.isatty() else f"{replica} | "


def _clock(seconds: float) -> str:
    """Return a unix time as local time with milliseconds."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


app = registered(__name__)
