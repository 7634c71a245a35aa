"""The streams: the event log as it grows, and the answers of other routes whenever they change."""

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
"""The largest integer that every JSON parser keeps exact."""

TICK = 1.0
"""Seconds between two looks for changes: the views are made once for all streams."""

SHOWN = 50
"""Deployments and events in a view."""

PROBLEMS = specs(401, 403, 421, 503)

AHEAD = 8
"""Messages to fetch at a time for each client: one of a busy proxy has 30 KB, and 64 clients may be slow."""

Start = Annotated[
    int,
    QueryParameter(ge=0, le=LARGEST, description="First stream sequence to send; 0: the next one."),
]
# gt=-1 and not ge=0: Litestar omits a minimum of 0 from the description of a value that may be absent
LastEventId = Annotated[
    int | None,
    HeaderParameter(
        name="Last-Event-ID", gt=-1, le=LARGEST - 1, description="Continue after this event; overrides start."
    ),
]
Follow = Annotated[bool, QueryParameter(description="false: end after the events that the log holds now.")]

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
    """Return server-sent events: each event of the log as JSON, with its stream sequence as id.

    An event named `gap` names sequences that the log no longer holds.
    """
    first = start if last_event_id is None else last_event_id + 1
    stream = await _described(gateway.bus)
    return answer(_events(gateway, stream, first, wanted(app, kind), follow), gateway.stopping)


@get("/api/stream", **HANDLING)
async def api_stream(gateway: InjectedGateway, follow: Follow = True) -> Stream:
    """Return server-sent events named status, containers, backends, deployments and events.

    Each has the answer of /api/<name>. It comes at first, and whenever the answer has changed.
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
    """Return the state of the log. Raises HTTPException 503, at once while the bus is away."""
    try:
        if not bus.is_connected:
            raise BusError("the bus is away: the log cannot be read now")
        return await log_reader.describe(bus)
    except BusError as error:
        raise HTTPException(status_code=503, detail=str(error), headers={"retry-after": "5"}) from None


def _current(gateway: Gateway) -> dict[str, bytes]:
    """Return the views, made once a tick for all their streams."""
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
    """Return the next messages; none at the end, or when another log has replaced this one.

    The client then connects again and gets a gap.
    """
    try:
        return await anext(reading, [])
    except log_reader.StreamReplacedError:
        return []


class Gap(msgspec.Struct, frozen=True):
    """The first and the last of the requested sequences that the log does not hold."""

    first: int
    last: int


def beginning(stream: log_reader.Stream, first: int) -> tuple[int, Gap | None]:
    """Return where to begin when `first` is requested (0: at the end), and what is missing from there on.

    A sequence beyond the end is one of an earlier log: that one is gone, and the stream begins at the end of this one.
    """
    if first in (0, stream.last + 1):
        return stream.last + 1, None
    if first > stream.last:
        return stream.last + 1, Gap(stream.last + 1, first - 1)
    return max(first, stream.first), Gap(first, stream.first - 1) if first < stream.first else None


def messages(entry: log_reader.LogMessage, wanted: Wanted) -> list[bytes]:
    """Return the events of a message. Only the last has the id: a client that was cut off before it gets all again."""
    try:
        batch = codec.decode(entry.payload, entry.subject).batch
    except msgspec.MsgspecError:
        return []
    found = views(entry.sequence, batch.service, batch.host, batch.app, batch.events, wanted)
    return [message(one, one.kind, str(entry.sequence) if one is found[-1] else "") for one in found]


HANDLERS = [api_events_stream, api_stream]
