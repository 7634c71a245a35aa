"""Reading the event log: a pull consumer that starts at a stream sequence and survives a lost bus.

The client library's own fetch asks for one batch at a time; this keeps two requests open, so that a new event arrives
without a round trip and a backlog streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from schemas import subjects
from services.common import log
from services.common.bus import RECONNECT_WAIT, Bus
from services.common.errors import BusError

BATCH = 500
EXPIRES = 30.0
IDLE = 300.0


class Entry(msgspec.Struct, frozen=True):
    """One message of the log. `pending`: how many more the stream holds now; `time`: when it was stored."""

    sequence: int
    subject: str
    payload: bytes
    pending: int
    time: float


class Stream(msgspec.Struct, frozen=True):
    """The log as it is now: when it was created, which tells it from any other, and its first and last sequence."""

    created: str
    first: int
    last: int


async def describe(bus: Bus) -> Stream:
    """The log. Raises BusError."""
    try:
        info = await bus.jetstream.stream_info(subjects.STREAM)
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(f"no answer about the stream {subjects.STREAM}: {error or type(error).__name__}") from error
    created = info.created.isoformat() if info.created else ""
    return Stream(created, info.state.first_seq, info.state.last_seq)


async def last_sequence(bus: Bus) -> int:
    """The stream sequence of the newest message, 0 when there is none. Raises BusError."""
    return (await describe(bus)).last


async def read(
    bus: Bus, start: int = 1, subject: str = subjects.ALL_EVENTS, wait: bool = True
) -> AsyncGenerator[list[Entry], None]:
    """The log from stream sequence `start` on, in order, in lists as they arrive; for ever, or until its end now.

    What the stream no longer holds is passed over: the first sequence tells.
    """
    logger = log.get(bus.service)
    position = start
    while True:
        await bus.until_connected()
        try:
            async for entries in _read_while_connected(bus, position, subject, wait):
                if not entries:
                    return
                position = entries[-1].sequence + 1
                yield entries
        except (nats.errors.Error, TimeoutError) as error:
            logger.warning("reading the log failed, trying again", reason=repr(error))
            await asyncio.sleep(RECONNECT_WAIT)


async def _read_while_connected(bus: Bus, start: int, subject: str, wait: bool) -> AsyncGenerator[list[Entry], None]:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        filter_subject=subject,
        inactive_threshold=IDLE,
        mem_storage=True,
        num_replicas=1,
    )
    consumer = await bus.jetstream.add_consumer(subjects.STREAM, config)
    if not wait and not consumer.num_pending:
        yield []
        return
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
    lost = asyncio.create_task(bus.until_lost())
    try:
        async for entries in _pull(bus, f"{subjects.STREAM}.{consumer.name}", inbox, subscription, lost):
            yield entries
            if not wait and not entries[-1].pending:
                yield []
                return
    finally:
        lost.cancel()
        if bus.is_connected:
            await subscription.unsubscribe()


async def _pull(
    bus: Bus, consumer: str, inbox: str, subscription: Subscription, lost: asyncio.Task[None]
) -> AsyncGenerator[list[Entry], None]:
    request = msgspec.json.encode({"batch": BATCH, "expires": int(EXPIRES * 1e9)})
    asked = 0
    while not lost.done():
        if asked <= BATCH // 2:
            await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{consumer}", request, reply=inbox)
            asked += BATCH
        messages = await _next(subscription, lost)
        entries = [_entry(message) for message in messages if message.reply]
        ended = [message for message in messages if not message.reply]
        asked -= len(entries) + sum(_unanswered(message) for message in ended)
        if entries:
            yield entries


async def _next(subscription: Subscription, lost: asyncio.Task[None]) -> list[Msg]:
    """All messages that are here, at least one unless the connection is lost."""
    queue = subscription._pending_queue
    if queue.empty():
        arriving = asyncio.ensure_future(subscription.next_msg(timeout=None))
        try:
            await asyncio.wait({arriving, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arriving.cancel()
        if not arriving.done():
            return []
        messages = [arriving.result()]
    else:
        messages = [await subscription.next_msg(timeout=1)]
    while len(messages) < BATCH and not queue.empty():
        messages.append(await subscription.next_msg(timeout=1))
    return messages


def _unanswered(status: Msg) -> int:
    """How much of a pull request a status message gives back. Raises when the consumer is gone."""
    headers = status.headers or {}
    code = headers.get("Status", "")
    if code == "409" and "Deleted" in headers.get("Description", ""):
        raise nats.js.errors.NotFoundError(code=404, description="the consumer was deleted")
    return int(headers.get("Nats-Pending-Messages", "0"))


def _entry(message: Msg) -> Entry:
    metadata = message.metadata
    return Entry(
        metadata.sequence.stream,
        message.subject,
        message.data,
        metadata.num_pending,
        metadata.timestamp.timestamp(),
    )
