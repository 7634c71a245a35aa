"""The streams: the event log as it grows, and what the other addresses answer whenever that changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.exceptions import HTTPException
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from schemas import codec, subjects
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream import log_reader
from services.metrics_gateway.api.dependencies import Gateway, InjectedGateway
from services.metrics_gateway.api.parameters import AppName, Kinds, wanted
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.api.queries import READ, status_of
from services.metrics_gateway.api.streams import MEDIA_TYPE, answer, limited, message, refuse_foreign_pages
from services.metrics_gateway.views import backends, deployments, events, status
from services.metrics_gateway.views.events import Wanted, views

LARGEST = 2**53 - 1
"""Of the numbers that every reader of JSON takes as they are."""

TICK = 1.0
SHOWN = 50

PROBLEMS = specs(401, 403, 421, 503)

AHEAD = 8
"""Messages that are asked for at a time, for each reader: one of a busy proxy has 30 KB, and 64 readers may be slow."""

Start = Annotated[
    int,
    QueryParameter(ge=0, le=LARGEST, description="First stream sequence to tell; 0: the first that comes from now on."),
]
# gt=-1 and not ge=0: the description of a value that may also be absent leaves out a minimum of 0
LastEventId = Annotated[
    int | None,
    HeaderParameter(
        name="Last-Event-ID", gt=-1, le=LARGEST - 1, description="Go on after this event; wins over start."
    ),
]
Follow = Annotated[bool, QueryParameter(description="false: end when everything is told that is there now.")]

HANDLING: dict[str, Any] = {
    "opt": READ,
    "media_type": MEDIA_TYPE,
    "responses": PROBLEMS,
    "middleware": [limited],
    "guards": [refuse_foreign_pages],
}

VIEWS: dict[str, Callable[[Gateway], Any]] = {
    "status": status_of,
    "containers": lambda gateway: status.containers(gateway.projection.state),
    "backends": lambda gateway: backends.backends(gateway.projection.state, ""),
    "deployments": lambda gateway: deployments.deployments(gateway.projection.state, "", SHOWN),
    "events": lambda gateway: events.newest(gateway.projection.state, Wanted(), SHOWN),
}


@get("/api/events/stream", **HANDLING)
async def api_events_stream(
    gateway: InjectedGateway,
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
    stream = await _described(gateway.bus)
    return answer(_events(gateway, stream, first, wanted(app, kind), follow), gateway.stopping)


@get("/api/stream", **HANDLING)
async def api_stream(gateway: InjectedGateway, follow: Follow = True) -> Stream:
    """Server-sent events named status, containers, backends, deployments and events.

    Each carries what /api/<name> answers, at first and whenever that has changed.
    """
    return answer(_views(gateway, follow), gateway.stopping)


async def _views(gateway: Gateway, follow: bool) -> AsyncGenerator[bytes, None]:
    sent: dict[str, bytes] = {}
    while True:
        for name, chunk in (_current(gateway) if follow else _made(gateway)).items():
            if sent.get(name) != chunk:
                sent[name] = chunk
                yield chunk
        if not follow:
            return
        await asyncio.sleep(TICK)


async def _described(bus: Bus) -> log_reader.Stream:
    """The log. Raises HTTPException 503, at once while the bus is away."""
    try:
        if not bus.is_connected:
            raise BusError("the bus is away: the log cannot be read now")
        return await log_reader.describe(bus)
    except BusError as error:
        raise HTTPException(status_code=503, detail=str(error), headers={"retry-after": "5"}) from None


def _current(gateway: Gateway) -> dict[str, bytes]:
    """The views, made once a tick for all that follow them."""
    now, shared = time.monotonic(), gateway.shared
    if now >= shared.due:
        shared.chunks, shared.due = _made(gateway), now + TICK
    return shared.chunks


def _made(gateway: Gateway) -> dict[str, bytes]:
    return {name: message(view(gateway), name) for name, view in VIEWS.items()}


async def _events(
    gateway: Gateway, stream: log_reader.Stream, first: int, wanted: Wanted, follow: bool
) -> AsyncGenerator[bytes, None]:
    start, gap = beginning(stream, first)
    if gap:
        yield message(gap, "gap")
    subject = subjects.events("*", wanted.app or "*")
    if not follow and start > stream.last:
        return
    reading = log_reader.read(gateway.bus, start, subject, wait=follow, created=stream.created, ahead=AHEAD)
    async with aclosing(reading):
        while entries := await _next(reading):
            for entry in entries:
                async with gateway.streams.turn():
                    chunks = messages(entry, wanted)
                for chunk in chunks:
                    yield chunk


async def _next(reading: AsyncGenerator[list[log_reader.LogMessage], None]) -> list[log_reader.LogMessage]:
    """What comes next; nothing at the end, or when the log is another one: the client comes back and hears of a gap."""
    try:
        return await anext(reading, [])
    except log_reader.StreamReplacedError:
        return []


class Gap(msgspec.Struct, frozen=True):
    """Sequences that were asked for and that the log does not hold: the first and the last of them."""

    first: int
    last: int


def beginning(stream: log_reader.Stream, first: int) -> tuple[int, Gap | None]:
    """Where to begin when `first` is asked for (0: at the end), and what is missing from there on.

    A sequence beyond the end is one of an earlier log: that one is gone, and this one is told from its end on.
    """
    if first in (0, stream.last + 1):
        return stream.last + 1, None
    if first > stream.last:
        return stream.last + 1, Gap(stream.last + 1, first - 1)
    return max(first, stream.first), Gap(first, stream.first - 1) if first < stream.first else None


def messages(entry: log_reader.LogMessage, wanted: Wanted) -> list[bytes]:
    """A message's events. Only the last carries the id: who was cut off before it gets the others again."""
    try:
        batch = codec.decode(entry.payload, entry.subject).batch
    except msgspec.MsgspecError:
        return []
    found = views(entry.sequence, batch.service, batch.host, batch.app, batch.events, wanted)
    return [message(one, one.kind, str(entry.sequence) if one is found[-1] else "") for one in found]


HANDLERS = [api_events_stream, api_stream]
