"""`longshore events`: the events of the log, from a moment on, of some kinds."""

from __future__ import annotations

import heapq
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import typer

from schemas import subjects
from schemas.events import EVENT_TYPES, Event
from services.cli import output
from services.cli.event_lines import as_line, as_object
from services.cli.log_start import warn_if_truncated
from services.cli.text.suggestions import did_you_mean
from services.cli.verbs import Json, registered, verb
from services.client.client import Client, LoggedEvent
from services.common.errors import SettingsError
from services.common.jetstream import log_reader
from services.metrics_gateway.fold.recent import DETAILS
from services.replay.log.log_range import parse_duration, parse_position

KINDS = {kind.__name__: kind for kind in EVENT_TYPES}

_KNOWN = ", ".join(sorted(KINDS))

WINDOW = 2000
"""Events that wait for earlier ones of other services: more than all services send in the 50 ms of a batch."""

LATE = 60.0
"""Seconds by which an event may be on the log after it happened: its service waited for the bus. `--since` looks so far
ahead of the messages that it asks for, and chooses by the times of the events themselves."""


@verb
async def events(
    client: Client,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new events, beginning now.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Only events of this kind. Repeatable.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also events of every probe, heartbeat and connection.")
    ] = False,
    since: Annotated[
        str, typer.Option("--since", help="Begin at this time, or so long ago: 10m, 2026-11-21T14:05.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="End at this time, or so long ago.")] = "",
    tail: Annotated[int | None, typer.Option("--tail", help="Only so many of the last events.")] = None,
    start: Annotated[
        int | None,
        typer.Option("--start", help="Stream sequence of the first event.", show_default="1; with --follow, the next"),
    ] = None,
    service: Annotated[str, typer.Option("--service", help="Only events of this service.", show_default="all")] = "*",
    as_json: Json = False,
) -> None:
    """Print the events of the log, but for those of every probe, heartbeat and connection.

    With --follow, it prints new events only; --since, --tail and --start add earlier ones.
    """
    _check(start, tail, service, follow, until)
    kinds = _kinds(kind or [], everything)
    now = time.time()
    wanted = Wanted(kinds, _moment("--since", since, now), _moment("--until", until, now))
    app, end = client.target.app or "*", await client.last_sequence()
    if not follow or since or tail is not None or start is not None:
        begin = start or (await log_reader.first_after(client.bus, wanted.since - LATE) if wanted.since else 1)
        await warn_if_truncated(client.bus, begin)
        earlier = in_order(client.events(begin, service, app, end))
        for one in await _last(earlier, wanted, tail) if tail is not None else ():
            _print(one, as_json)
        async for one in earlier:  # nothing is left of it after `_last`
            if wanted.has(one):
                _print(one, as_json)
    if follow:
        async for one in client.events(end + 1, service, app):
            if wanted.has(one):
                _print(one, as_json)


class Wanted(msgspec.Struct, frozen=True):
    """A filter of events: by kind, and by their own times, in unix seconds."""

    kinds: frozenset[type[Event]]
    since: float | None = None
    until: float | None = None

    def has(self, recorded: LoggedEvent) -> bool:
        """Return whether an event passes the filter."""
        event = recorded.event
        is_late = self.until is not None and event.time > self.until
        is_early = self.since is not None and event.time < self.since
        return type(event) in self.kinds and not is_late and not is_early


async def in_order(found: AsyncIterator[LoggedEvent]) -> AsyncIterator[LoggedEvent]:
    """Yield events by their times. Services send in batches, so an event may come after a later one of another."""
    waiting: list[tuple[float, int, LoggedEvent]] = []
    number = 0
    async for one in found:
        heapq.heappush(waiting, (one.event.time, number, one))
        number += 1
        if len(waiting) > WINDOW:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


async def _last(found: AsyncIterator[LoggedEvent], wanted: Wanted, tail: int) -> deque[LoggedEvent]:
    kept: deque[LoggedEvent] = deque(maxlen=tail)
    async for one in found:
        if wanted.has(one):
            kept.append(one)
    return kept


def _print(one: LoggedEvent, as_json: bool) -> None:
    if as_json:
        output.print_json([as_object(one)])
    else:
        typer.echo(as_line(one))


def _check(start: int | None, tail: int | None, service: str, follow: bool, until: str) -> None:
    if start is not None and start < 1:
        raise SettingsError(f"--start {start}: the first message of a log is 1; use 1 or more")
    if tail is not None and tail < 0:
        raise SettingsError(f"--tail {tail}: use 0 or more events")
    if service != "*" and service not in subjects.SERVICES:
        raise SettingsError(f"--service {service!r}: known are {', '.join(subjects.SERVICES)}")
    if follow and until:
        raise SettingsError("--until: excludes --follow; omit one of them")


def _kinds(names: list[str], everything: bool) -> frozenset[type[Event]]:
    """Return the kinds to print. Raises SettingsError for a name that is none."""
    for name in names:
        if name not in KINDS:
            raise SettingsError(f"--kind {name}: no such kind of event{did_you_mean(name, KINDS)}; known are {_KNOWN}")
    if names:
        return frozenset(KINDS[name] for name in names)
    return frozenset(KINDS.values()) - (frozenset() if everything else DETAILS)


def _moment(option: str, text: str, now: float) -> float | None:
    """Return a time in unix seconds: an ISO 8601 time, unix seconds after an @, or a duration before now."""
    if not text:
        return None
    if re.fullmatch(r"[\d.]+(ms|s|m|h|d)", text):
        return now - parse_duration(option, text)
    if text.isdigit():
        raise SettingsError(
            f"{option} {text}: use a duration (10m), a time (2026-11-21T14:05:00Z) or --start for a sequence"
        )
    return parse_position(option, text).time


app = registered(__name__)
