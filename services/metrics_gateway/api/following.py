"""The streams: the event log as it grows, and what the other addresses answer whenever that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from schemas import codec, subjects
from services.common import reader
from services.metrics_gateway import backends, deployments, recent, status
from services.metrics_gateway.api.core import Core, Given
from services.metrics_gateway.api.parameters import AppName, Kinds, wanted
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.api.reading import READ, status_of
from services.metrics_gateway.api.streams import MEDIA_TYPE, message
from services.metrics_gateway.recent import Wanted, views

LARGEST = 2**53 - 1
"""Of the numbers that every reader of JSON takes as they are."""

TICK = 1.0
SHOWN = 50

PROBLEMS = specs(401, 421, 503)

Start = Annotated[
    int,
    QueryParameter(ge=0, le=LARGEST, description="First stream sequence to tell; 0: the first that comes from now on."),
]
LastEventId = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", ge=0, le=LARGEST - 1, description="Go on after this event; wins over start."),
]
Follow = Annotated[bool, QueryParameter(description="false: end when everything is told that is there now.")]

VIEWS: dict[str, Callable[[Core], Any]] = {
    "status": status_of,
    "containers": lambda core: status.containers(core.live.state),
    "backends": lambda core: backends.backends(core.live.state, ""),
    "deployments": lambda core: deployments.deployments(core.live.state, "", SHOWN),
    "events": lambda core: recent.newest(core.live.state, Wanted(), SHOWN),
}


@get("/api/events/stream", opt=READ, responses=PROBLEMS, media_type=MEDIA_TYPE)
async def api_events_stream(
    core: Given,
    app: AppName = "",
    kind: Kinds = (),
    start: Start = 0,
    last_event_id: LastEventId = None,
    follow: Follow = True,
) -> Stream:
    """Server-sent events: each event of the log as JSON, under its stream sequence as id.

    An event named `gap` tells which sequences the log no longer holds.
    """
    first = start if last_event_id is None else last_event_id + 1
    return core.streams.answer(_events(core, first, wanted(app, kind), follow), core.stopping)


@get("/api/stream", opt=READ, responses=PROBLEMS, media_type=MEDIA_TYPE)
async def api_stream(core: Given, follow: Follow = True) -> Stream:
    """Server-sent events named status, containers, backends, deployments and events.

    Each carries what /api/<name> answers, at first and whenever that has changed.
    """
    return core.streams.answer(_views(core, follow), core.stopping)


async def _views(core: Core, follow: bool) -> AsyncGenerator[bytes, None]:
    told: dict[str, bytes] = {}
    while True:
        for name, view in VIEWS.items():
            chunk = message(view(core), name)
            if told.get(name) != chunk:
                told[name] = chunk
                yield chunk
        if not follow:
            return
        await asyncio.sleep(TICK)


async def _events(core: Core, first: int, wanted: Wanted, follow: bool) -> AsyncGenerator[bytes, None]:
    stream = await reader.describe(core.bus)
    start, gap = beginning(stream, first)
    if gap:
        yield message(gap, "gap")
    subject = subjects.events("*", wanted.app or "*")
    if not follow and start > stream.last:
        return
    async with aclosing(reader.read(core.bus, start, subject, wait=follow)) as reading:
        async for entries in reading:
            for entry in entries:
                for chunk in told(entry, wanted):
                    yield chunk


class Gap(msgspec.Struct, frozen=True):
    """Sequences that were asked for and that the log does not hold: the first and the last of them."""

    first: int
    last: int


def beginning(stream: reader.Stream, first: int) -> tuple[int, Gap | None]:
    """Where to begin when `first` is asked for (0: at the end), and what is missing from there on.

    A sequence beyond the end is one of an earlier log: that one is gone, and this one is told from its end on.
    """
    if first in (0, stream.last + 1):
        return stream.last + 1, None
    if first > stream.last:
        return stream.last + 1, Gap(stream.last + 1, first - 1)
    return max(first, stream.first), Gap(first, stream.first - 1) if first < stream.first else None


def told(entry: reader.Entry, wanted: Wanted) -> list[bytes]:
    """A message's events. Only the last carries the id: who was cut off before it gets the others again."""
    try:
        batch = codec.decode(entry.payload, entry.subject).batch
    except msgspec.MsgspecError:
        return []
    found = views(entry.sequence, batch.service, batch.host, batch.app, batch.events, wanted)
    return [message(one, one.kind, str(entry.sequence) if one is found[-1] else "") for one in found]


HANDLERS = [api_events_stream, api_stream]
