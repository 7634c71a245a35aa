"""A pull consumer of a stream that ends with its reader.

The client library's own fetch requests one batch at a time; this one keeps two requests open, so that a new message
arrives without a round trip, and a backlog streams.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.common.bus.connection import Bus
from services.common.bus.nats_client import AwayError
from services.common.tasks import unless_cancelled

BATCH = 500
"""Messages in a request: enough that a backlog streams, few enough that the event loop does other work in between."""

EXPIRES = 30.0
IDLE = 120.0
"""Seconds after the last request until the server deletes a consumer whose reader died."""

HEARTBEAT = 3.0
SILENCE = 8.0
"""Seconds without a message or a heartbeat after which the consumer is lost: in a cluster, its server may be gone while
the connection's server still runs."""


class StartAt(msgspec.Struct, frozen=True):
    """The start of a consumer: messages of `subjects`, from the sequence `first` or with the newest of each subject.

    `ahead`: the number of messages in a request; at most half as many more are on their way.
    """

    subjects: list[str]
    first: int = 0
    ahead: int = BATCH


class Consumer:
    """A pull consumer. `pending`: the messages for it when it was created, before any of them was sent."""

    def __init__(
        self, bus: Bus, stream: str, name: str, pending: int, inbox: str, subscription: Subscription, ahead: int
    ) -> None:
        self.pending = pending
        self._bus = bus
        self._stream = stream
        self._name = name
        self._inbox = inbox
        self._subscription = subscription
        self._lost = asyncio.create_task(bus.until_lost())
        self._asked = 0
        self._ahead = ahead

    @property
    def is_lost(self) -> bool:
        """The connection was lost, and with it the consumer."""
        return self._lost.done()

    async def fetch(self, timeout: float | None = None) -> list[Msg]:
        """Return the next messages, in order; none when the consumer is lost, or after `timeout` seconds.

        Raises the client's errors, also when the consumer is silent for too long.
        """
        if self._asked <= self._ahead // 2:
            request = {"batch": self._ahead, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            try:
                await self._bus.client.publish(subject, msgspec.json.encode(request), reply=self._inbox)
            except AwayError:
                await self._lost  # the bus object notices it a moment later
                return []
            self._asked += self._ahead
        arrived = await self._arrived(timeout)
        messages = [message for message in arrived if self._is_delivered(message.reply)]
        ended = [message for message in arrived if not message.reply]
        self._asked -= len(messages) + sum(_released(message) for message in ended)
        return messages

    async def outstanding(self, received: int) -> int:
        """Return the number of messages still to come after `received` messages, as the server counts them now."""
        info = await self._bus.jetstream.consumer_info(self._stream, self._name)
        sent = info.delivered.consumer_seq if info.delivered else 0
        return (info.num_pending or 0) + (sent or 0) - received

    async def close(self) -> None:
        """End the consumer here and, without waiting for an answer, on the server, which limits their number."""
        self._lost.cancel()
        with contextlib.suppress(nats.errors.Error):
            await self._subscription.unsubscribe()
            if self._bus.is_connected:
                await self._bus.client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")

    def _is_delivered(self, reply: str) -> bool:
        """Report whether this consumer delivers the message: only the server can set such a reply subject."""
        return reply.startswith("$JS.ACK.") and f".{self._stream}.{self._name}." in reply

    async def _arrived(self, timeout: float | None) -> list[Msg]:
        """Return all arrived messages: at least one, unless the connection is lost or the time is over."""
        queue = self._subscription._pending_queue
        if queue.empty():
            arriving = asyncio.ensure_future(self._subscription.next_msg(timeout=None))
            limit = SILENCE if timeout is None else timeout
            try:
                await asyncio.wait({arriving, self._lost}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            finally:
                arriving.cancel()
            if not arriving.done():
                if timeout is None and not self.is_lost:
                    raise nats.errors.TimeoutError
                return []
            messages = [arriving.result()]
        else:
            messages = [await unless_cancelled(self._subscription.next_msg(timeout=1))]
        while len(messages) < BATCH and not queue.empty():
            messages.append(await unless_cancelled(self._subscription.next_msg(timeout=1)))
        return messages


@contextlib.asynccontextmanager
async def consume(bus: Bus, stream: str, start: StartAt) -> AsyncIterator[Consumer]:
    """Create a consumer of a stream, and delete it at the end. Raises the client's errors."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        filter_subject=start.subjects[0] if len(start.subjects) == 1 else None,
        filter_subjects=start.subjects if len(start.subjects) > 1 else None,
        inactive_threshold=IDLE,
        mem_storage=True,
        num_replicas=1,
    )
    if start.first:
        config.deliver_policy, config.opt_start_seq = DeliverPolicy.BY_START_SEQUENCE, start.first
    created = await bus.jetstream.add_consumer(stream, config)
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
    consumer = Consumer(bus, stream, created.name, created.num_pending or 0, inbox, subscription, start.ahead)
    try:
        yield consumer
    finally:
        await consumer.close()


def _released(status: Msg) -> int:
    """Return the messages that a status message takes off a request. Raises when the consumer is gone."""
    headers = status.headers or {}
    code = headers.get("Status", "")
    if code == "409" and "Deleted" in headers.get("Description", ""):
        raise nats.js.errors.NotFoundError(code=404, description="the consumer was deleted")
    return int(headers.get("Nats-Pending-Messages", "0"))
