"""The outbox: events on their way to the bus.

Recording an event never waits and never fails. Batches leave in order; each keeps its place in its instance's
sequence, which is its message id, so that sending one again is harmless. A batch that the bus does not take at once
waits on disk (`services.common.delivery.buffer`), also for the next process of the service. When the disk queue is
full, the oldest batches are dropped, and an EventsDropped event counts them by kind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import nats.errors
from nats.js.api import PubAck

from schemas import subjects
from schemas.chain import SealedBatch, Sealer
from schemas.codec import encode_events
from schemas.events import Event, EventsDropped
from services.common import log
from services.common.bus.connection import Bus
from services.common.delivery.buffer import Buffer
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.spool_file import Delivery, delivery
from services.common.log import Outage

FLUSH_INTERVAL = 0.005
"""Seconds for which events are gathered into a batch."""

FLUSH_EVENTS = 512
"""Events that fill a batch at once: some 50 KB, far below the server's limit for a message."""

WINDOW = 64
"""Batches in flight: enough to hide a round trip, few enough to repeat after a lost connection."""

ACK_TIMEOUT = 5.0
RETRY = 0.05
"""Seconds until refused batches are sent again: an election takes longer, but its end should not cost a second."""

MEMORY_LIMIT = 64 << 20
"""Bytes of batches in memory when the disk takes none: some 600,000 events."""


class Outbox:
    """The queue of the events of one service on one host, and of the batches of its children."""

    def __init__(
        self,
        bus: Bus,
        service: str,
        host: str,
        instance: str,
        disk_queue: DiskQueue | None = None,
        limit: int = MEMORY_LIMIT,
    ) -> None:
        """Without a disk queue, batches wait only in memory. `limit`: bytes of the batches that are not on disk."""
        self.instance = instance
        self._bus = bus
        self._service = service
        self._host = host
        self._sealer = Sealer(service, host, instance)
        self._recorded_lost = 0
        self._unsealed: dict[str, list[Event]] = {}
        self._buffer = Buffer(service, disk_queue, limit)
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._log = log.get(service)
        self._refusal = Outage(
            self._log, "the bus does not take events: they wait", recovery="the bus takes events again"
        )

    @property
    def depth(self) -> int:
        """The number of batches that the bus has not taken yet."""
        return self._buffer.batches + len(self._unsealed) + bool(self._buffer.lost)

    @property
    def dropped(self) -> int:
        """The number of lost events."""
        return self._recorded_lost + self._buffer.lost.total()

    @property
    def size(self) -> int:
        """Bytes of the batches that the bus has not taken yet."""
        return self._buffer.size

    def record(self, event: Event, app: str = subjects.NO_APP) -> None:
        """Add an event of this service's own instance.

        Order is kept within an app, and between all apps and the events about the service as a whole.
        """
        if app == subjects.NO_APP:
            self._seal_all()
        events = self._unsealed.setdefault(app, [])
        events.append(event)
        if len(events) >= FLUSH_EVENTS:
            self._seal(app)
        self._wake.set()

    def forward(self, batch: SealedBatch, on_durable: Callable[[], None] | None = None) -> None:
        """Add a sealed batch of a child; `on_durable` is called once the batch outlives this process."""
        self._buffer.add(delivery(self._service, batch, on_durable))

    async def run(self) -> None:
        """Publish until cancelled; then write the remaining batches to disk."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._gather(), self._send(), self._buffer.persist(), self._buffer.adopt()):
                    tasks.create_task(work)
        finally:
            self._seal_all()
            await self._buffer.close()

    async def flush(self, timeout: float) -> bool:
        """Wait until the bus has taken everything recorded so far. Return False after `timeout` seconds.

        `run` must be running.
        """
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                while self.depth:
                    self._sent.clear()
                    await self._sent.wait()
        except TimeoutError:
            return False
        return True

    async def _gather(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_INTERVAL)
            self._wake.clear()
            self._seal_all()

    def _seal_all(self) -> None:
        for app in list(self._unsealed):
            self._seal(app)

    def _seal(self, app: str) -> None:
        events = self._unsealed.pop(app)
        payload = self._sealer.seal(app, msgspec.Raw(encode_events(events)))
        message_id = f"{self.instance}:{self._sealer.sequence}"
        self.forward(SealedBatch(app, message_id, len(events), payload))

    async def _send(self) -> None:
        while True:
            await self._buffer.ready.wait()
            await self._bus.until_connected()
            self._buffer.ready.clear()
            self._record_dropped()
            while window := await self._buffer.next_batches(WINDOW):
                await self._publish_all(window)
            self._record_dropped()
            self._sent.set()

    def _record_dropped(self) -> None:
        lost = self._buffer.pop_lost()
        if lost:
            self._recorded_lost += lost.total()
            self._log.warning("events were dropped", events=lost.total())
            self.record(EventsDropped(time.time(), lost.total(), dict(lost)))

    async def _publish_all(self, window: list[Delivery]) -> None:
        """Send batches until all have arrived; send those again that were not acknowledged."""
        while window:
            await self._bus.until_connected()
            outcomes = await asyncio.gather(*map(self._publish, window), return_exceptions=True)
            self._cancel_unsent()
            arrived, again, impossible = _sort_outcomes(window, outcomes)
            self._buffer.drop(impossible)
            await self._buffer.acknowledge(arrived + impossible)
            if arrived:
                self._refusal.recovered()
            if again:
                if self._bus.is_connected:  # else the connection logs that the bus is away
                    error = next(outcome for outcome in outcomes if isinstance(outcome, BaseException))
                    self._refusal.failed(str(error) or repr(error))
                await asyncio.sleep(RETRY)
            window = again

    async def _publish(self, batch: Delivery) -> None:
        await self._acknowledged(
            await self._bus.jetstream.publish_async(
                subjects.from_host(batch.subject, self._host),
                batch.payload,
                wait_stall=ACK_TIMEOUT,
                stream=subjects.STREAM,
                headers={"Nats-Msg-Id": batch.message_id},
            )
        )

    def _cancel_unsent(self) -> None:
        """Cancel the futures of unsent messages: the client keeps one for each, and limits their number."""
        for future in list(self._bus.jetstream._publish_async_futures.values()):
            future.cancel()

    async def _acknowledged(self, future: asyncio.Future[PubAck]) -> None:
        lost = asyncio.ensure_future(self._bus.until_lost())
        waiting: set[asyncio.Future[Any]] = {future, lost}
        try:
            await asyncio.wait(waiting, timeout=ACK_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        if not future.done():
            future.cancel()
            raise nats.errors.TimeoutError
        future.result()


def _sort_outcomes(
    window: list[Delivery], outcomes: list[Any]
) -> tuple[list[Delivery], list[Delivery], list[Delivery]]:
    """Return the batches that arrived, those to send again, unless dropped, and those too large for the bus."""
    arrived, again, impossible = [], [], []
    for batch, outcome in zip(window, outcomes, strict=True):
        if not isinstance(outcome, BaseException):
            arrived.append(batch)
        elif isinstance(outcome, nats.errors.MaxPayloadError):
            impossible.append(batch)
        elif not batch.is_finished:
            again.append(batch)
    return arrived, again, impossible
