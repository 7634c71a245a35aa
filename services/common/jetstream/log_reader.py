"""A reader of the event log from a stream sequence on, which survives outages of the bus."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.bus.nats_client import RECONNECT_WAIT
from services.common.errors import BusError
from services.common.jetstream.consumer import BATCH, StartAt, consume
from services.common.log import Outage

BEGAN = "Longshore-Began"
"""Header of a message that was imported from a log without its beginning: the start of that log (unix seconds)."""


class LogMessage(msgspec.Struct, frozen=True):
    """One message of the log. `pending`: the messages behind it in the stream; `time`: when it was stored.

    `began`: the start (unix seconds) of the log that it was imported from, if that log had lost its beginning, else 0.
    """

    sequence: int
    subject: str
    payload: bytes
    pending: int
    time: float
    began: float = 0.0


class StreamReplacedError(Exception):
    """The stream was replaced since it was read, or ends before the position. `stream`: the present one."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(f"the stream {subjects.STREAM} was created at {stream.created} and ends at {stream.last}")
        self.stream = stream


class Stream(msgspec.Struct, frozen=True):
    """The present log: its time of creation, which identifies it, and its first and last sequence."""

    created: str
    first: int
    last: int


async def describe(bus: Bus) -> Stream:
    """Return the log's state. Raises BusError, DeniedError at once when this account may not ask."""
    try:
        info = await bus.unless_denied(f"STREAM.INFO.{subjects.STREAM}", bus.jetstream.stream_info(subjects.STREAM))
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(f"no answer about the stream {subjects.STREAM}: {error or type(error).__name__}") from error
    created = info.created.isoformat() if info.created else ""
    return Stream(created, info.state.first_seq, info.state.last_seq)


async def last_sequence(bus: Bus) -> int:
    """Return the stream sequence of the newest message, 0 when there is none. Raises BusError."""
    return (await describe(bus)).last


async def first_after(bus: Bus, time: float) -> int:
    """Return the sequence of the first message that was stored at `time` (unix seconds) or later. Raises BusError.

    A binary search: twenty requests for a million messages.
    """
    stream = await describe(bus)
    low, high = max(stream.first, 1), stream.last + 1
    while low < high:
        middle = (low + high) // 2
        if await _stored(bus, middle) < time:
            low = middle + 1
        else:
            high = middle
    return low


async def _stored(bus: Bus, sequence: int) -> float:
    """Return when a message was stored; 0 for one that has just left the log, as the oldest do."""
    try:
        message = await bus.jetstream.get_msg(subjects.STREAM, sequence)
    except nats.js.errors.NotFoundError:
        return 0.0
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(f"no answer about the stream {subjects.STREAM}: {error or type(error).__name__}") from error
    return message.time.timestamp() if message.time else 0.0


async def read(
    bus: Bus,
    start: int = 1,
    subject: str = subjects.ALL_EVENTS,
    wait: bool = True,
    created: str = "",
    ahead: int = BATCH,
) -> AsyncGenerator[list[LogMessage], None]:
    """Yield the log from stream sequence `start` on, in order, in lists as they arrive.

    With `wait`, it never ends; without, it ends at the present end of the log. `ahead`: the messages in a request.
    Messages that the stream no longer holds are skipped, as the first sequence shows. Raises StreamReplacedError when
    the stream is not the one that was `created` then, or ends before `start`.
    """
    outage = Outage(log.get(bus.service), "reading the log failed, retrying")
    position = start
    while True:
        await bus.until_connected()
        try:
            if created:
                _check_is_same(await describe(bus), created, position)
            async with contextlib.aclosing(_read_while_connected(bus, position, subject, wait, ahead)) as reading:
                async for messages in reading:
                    if not messages:
                        return
                    position = messages[-1].sequence + 1
                    outage.recovered()
                    yield messages
        except (nats.errors.Error, TimeoutError, BusError) as error:
            outage.failed(str(error) or repr(error))
            await asyncio.sleep(RECONNECT_WAIT)


def _check_is_same(stream: Stream, created: str, position: int) -> None:
    if stream.created != created or stream.last < position - 1:
        raise StreamReplacedError(stream)


async def _read_while_connected(
    bus: Bus, start: int, subject: str, wait: bool, ahead: int
) -> AsyncGenerator[list[LogMessage], None]:
    async with consume(bus, subjects.STREAM, StartAt(subjects.filters(subject), max(start, 1), ahead)) as consumer:
        if not wait and not consumer.pending:
            yield []
            return
        while not consumer.is_lost:
            messages = [_log_message(message) for message in await consumer.fetch()]
            if messages:
                yield messages
                if not wait and not messages[-1].pending:
                    yield []
                    return


def _log_message(message: Msg) -> LogMessage:
    metadata = message.metadata
    return LogMessage(
        metadata.sequence.stream,
        message.subject,
        message.data,
        metadata.num_pending,
        metadata.timestamp.timestamp(),
        _began(message.headers),
    )


def _began(headers: dict[str, str] | None) -> float:
    try:
        began = float((headers or {}).get(BEGAN, 0.0))
    except ValueError:
        return 0.0
    return began if 0 < began < math.inf else 0.0
