"""The outbox: events on their way to the bus.

Recording an event never waits and never fails. Batches leave in order; each keeps its place in its instance's
sequence, which is its message id, so that sending one again is harmless. While the bus is away they wait in memory,
up to a limit; beyond it the oldest are dropped and an EventsDropped event says how many events that was.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Container
from itertools import islice
from typing import Any

import msgspec
import nats.errors
from nats.js.api import PubAck

from schemas import subjects
from schemas.codec import encode_events
from schemas.events import Event, EventsDropped
from services.common import log
from services.common.bus import Bus

FLUSH_INTERVAL = 0.05
FLUSH_EVENTS = 512
WINDOW = 64
ACK_TIMEOUT = 5.0
DEFAULT_LIMIT = 64 << 20


class _Envelope(msgspec.Struct, array_like=True):
    """A Batch whose events are already encoded."""

    service: str
    host: str
    app: str
    instance: str
    sequence: int
    events: msgspec.Raw


class _Waiting(msgspec.Struct):
    subject: str
    instance: str
    app: str
    sequence: int
    events: int
    payload: bytes

    @property
    def message_id(self) -> str:
        return f"{self.instance}:{self.sequence}"


class Outbox:
    """Collects the events of one service on one host, and of the children that it relays for."""

    def __init__(self, bus: Bus, service: str, host: str, instance: str, limit: int = DEFAULT_LIMIT) -> None:
        self.instance = instance
        self.dropped = 0
        self._untold = 0
        self._bus = bus
        self._service = service
        self._host = host
        self._limit = limit
        self._size = 0
        self._fresh: dict[str, list[Event]] = {}
        self._waiting: deque[_Waiting] = deque()
        self._sequences: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._sent = asyncio.Event()
        self._log = log.get(service)

    @property
    def depth(self) -> int:
        """How many batches the bus has not taken yet."""
        return len(self._waiting) + len(self._fresh) + (self._untold > 0)

    def record(self, event: Event, app: str = subjects.NO_APP) -> None:
        """Add an event of this service's own instance.

        Order is kept within an app, and between all apps and what concerns the service as a whole.
        """
        if app == subjects.NO_APP:
            self._seal_all()
        events = self._fresh.setdefault(app, [])
        events.append(event)
        if len(events) >= FLUSH_EVENTS:
            self._seal(app)
        self._wake.set()

    def relay(self, instance: str, app: str, events: msgspec.Raw, count: int) -> None:
        """Add a batch of `count` encoded events of another instance (a proxy worker's)."""
        self._append(instance, app, events, count)
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_INTERVAL)
            await self._bus.until_connected()
            self._wake.clear()
            self._tell_what_was_dropped()
            self._seal_all()
            while self._waiting:
                await self._publish_window()

    async def flush(self, timeout: float) -> bool:
        """Whether everything recorded so far was taken by the bus within `timeout` seconds; `run` must be running."""
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                while self.depth:
                    self._sent.clear()
                    await self._sent.wait()
        except TimeoutError:
            return False
        return True

    def _seal_all(self) -> None:
        for app in list(self._fresh):
            self._seal(app)

    def _seal(self, app: str) -> None:
        events = self._fresh.pop(app)
        self._append(self.instance, app, msgspec.Raw(encode_events(events)), len(events))

    def _append(self, instance: str, app: str, events: msgspec.Raw, count: int) -> None:
        sequence = self._sequences.get(instance, 0) + 1
        self._sequences[instance] = sequence
        payload = msgspec.msgpack.encode(_Envelope(self._service, self._host, app, instance, sequence, events))
        self._waiting.append(_Waiting(subjects.events(self._service, app), instance, app, sequence, count, payload))
        self._size += len(payload)
        if self._size > self._limit:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Make room for a tenth of the limit at once, so that a long outage is told in few events."""
        lost = 0
        while self._waiting and self._size > self._limit * 0.9:
            batch = self._waiting.popleft()
            self._size -= len(batch.payload)
            lost += batch.events
        if not self._untold:
            self._log.warning("the bus is away and the buffer is full: the oldest events are dropped")
        self.dropped += lost
        self._untold += lost

    def _tell_what_was_dropped(self) -> None:
        if self._untold:
            self._log.warning("the bus is back", events_dropped=self._untold)
            self.record(EventsDropped(time.time(), self._untold))
            self._untold = 0

    async def _publish_window(self) -> None:
        """Send the oldest batches and remove those that the bus acknowledged.

        All of a window is settled before the next one starts, and what was not acknowledged goes out again.
        """
        await self._bus.until_connected()
        window = list(islice(self._waiting, WINDOW))
        outcomes = await asyncio.gather(*map(self._publish, window), return_exceptions=True)
        problems = {
            batch.message_id: outcome
            for batch, outcome in zip(window, outcomes, strict=True)
            if isinstance(outcome, BaseException)
        }
        self._settle({batch.message_id for batch in window}, problems)
        if problems:
            reason = next(iter(problems.values()))
            self._log.debug("publishing again", batches=len(problems), reason=repr(reason))
            await asyncio.sleep(FLUSH_INTERVAL)
        if not self.depth:
            self._sent.set()

    def _settle(self, window: set[str], problems: Container[str]) -> None:
        """Remove the batches of a window that arrived; some may have been dropped in the meantime."""
        again = []
        while self._waiting and self._waiting[0].message_id in window:
            batch = self._waiting.popleft()
            if batch.message_id in problems:
                again.append(batch)
            else:
                self._size -= len(batch.payload)
        self._waiting.extendleft(reversed(again))

    async def _publish(self, batch: _Waiting) -> None:
        future = await self._bus.jetstream.publish_async(
            batch.subject,
            batch.payload,
            wait_stall=ACK_TIMEOUT,
            stream=subjects.STREAM,
            headers={"Nats-Msg-Id": batch.message_id},
        )
        await self._acknowledged(future)

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
