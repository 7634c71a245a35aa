"""Batches between their sealing and the bus: in memory, and also on disk once they have waited for a moment.

While the bus is away for long, they are only on disk. When the disk does not take them, they stay in memory, up to a
limit; dropped events are counted by kind. Only `next_batches` and `acknowledge` wait for the disk, `add` never does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from schemas import codec
from services.common import log
from services.common.delivery.disk_queue import ROOM, UNREADABLE, DiskQueue
from services.common.delivery.spool_file import DamagedSpoolError, Delivery, SpoolError
from services.common.log import Outage

GRACE = 0.005
"""Seconds that the bus has to take a batch before it is written to disk: most batches never need the disk."""

MEMORY = 4 << 20
"""Bytes of stored batches that stay in memory, too, so that a short outage needs no reads."""

RETRY = 2.0
"""Seconds until a disk that failed is tried again: space may be freed at any time."""

ADOPT_INTERVAL = 5.0
"""Seconds between two looks for the files of dead processes; one look lists a folder."""

T = TypeVar("T")


class Buffer:
    """`lost` counts, by kind, the events that were dropped. `ready` is set when there may be something to send."""

    def __init__(self, service: str, disk_queue: DiskQueue | None, limit: int) -> None:
        """`limit`: bytes of batches in memory that are not on disk."""
        self.lost: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._disk_queue = disk_queue
        self._limit = limit
        self._queue: deque[Delivery] = deque()
        self._size = 0
        self._unstored: dict[Delivery, None] = {}
        self._sending: frozenset[str] = frozenset()
        self._finished: list[Delivery] = []
        self._is_spilled = False
        self._failing: set[str] = set()
        self._outage = Outage(
            log.get(service), "cannot use the spool: events wait in memory", recovery="the spool is used again"
        )
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"{service}-spool")
        self._log = log.get(service)

    @property
    def batches(self) -> int:
        """The number of batches that the bus has not taken yet."""
        return len(self._queue) + (self._disk_queue.batches if self._disk_queue and self._is_spilled else 0)

    @property
    def size(self) -> int:
        """Bytes of batches that the bus has not taken yet."""
        return self._size + (self._disk_queue.size if self._disk_queue and self._is_spilled else 0)

    def pop_lost(self) -> Counter[str]:
        """Return the events that were dropped since the last call, by kind."""
        lost, self.lost = self.lost, Counter()
        return lost

    def add(self, batch: Delivery) -> None:
        """Add a batch to send."""
        self._queue.append(batch)
        self._size += len(batch.payload)
        if self._disk_queue:
            self._unstored[batch] = None
            self._changed.set()
        if self._size > self._limit:
            self._drop_oldest()
        self.ready.set()

    def drop(self, batches: Sequence[Delivery]) -> None:
        """Count the events of batches that the bus will never take as lost."""
        for batch in batches:
            self._count_lost(codec.kinds(batch.payload))

    async def next_batches(self, count: int) -> list[Delivery]:
        """Return at most `count` of the oldest batches. Acknowledge them all before the next call."""
        if self._disk_queue and self._is_spilled:
            try:
                batches = await self._attempt(self._oldest, self._disk_queue, count)
            except SpoolError:
                batches = []
            if batches:
                return batches
            self._is_spilled = bool(self._failing) and bool(self._disk_queue.batches)
        return self._protect([batch for batch in islice(self._queue, count) if not batch.is_finished])

    async def acknowledge(self, batches: Sequence[Delivery]) -> None:
        """Forget batches that the bus has taken."""
        for batch in batches:
            self._finish(batch)
        stored = [batch for batch in batches if batch.spool]
        if self._disk_queue and self._is_spilled and stored:
            with contextlib.suppress(SpoolError):  # logged; this process does not send them again
                await self._attempt(self._disk_queue.sent, stored)

    async def persist(self) -> None:
        """Write batches to disk that the bus does not take at once, until cancelled."""
        while self._disk_queue:
            await self._changed.wait()
            await asyncio.sleep(GRACE)
            self._changed.clear()
            if not await self._store(self._disk_queue):
                self._changed.set()
                await asyncio.sleep(RETRY)

    async def adopt(self) -> None:
        """Take over the spools of dead processes, until cancelled."""
        while self._disk_queue:
            with contextlib.suppress(SpoolError):
                found = await self._attempt(self._disk_queue.adopt)
                if found:
                    self._log.info("sending what an earlier process could not send", batches=found)
                    self._spill()
                    self.ready.set()
            await asyncio.sleep(ADOPT_INTERVAL)

    async def close(self) -> None:
        """Write all batches to disk that the bus has not taken, and close the files."""
        if self._disk_queue:
            with contextlib.suppress(SpoolError):
                await self._attempt(_nothing)  # work in progress has ended now
                await self._store(self._disk_queue)
                await self._attempt(self._disk_queue.close)
        self._thread.shutdown()

    async def _store(self, disk_queue: DiskQueue) -> bool:
        """Store the new batches. Return whether the disk took them."""
        batches = [batch for batch in self._unstored if not (batch.is_finished or batch.spool)]
        finished = self._finished + [batch for batch in self._unstored if batch.is_finished and batch.spool]
        self._unstored, self._finished = {}, []
        if not (batches or finished):
            return True
        try:
            await self._attempt(self._write, disk_queue, batches, finished)
        except SpoolError:
            self._retain([batch for batch in batches if not batch.is_finished], finished)
            return False
        except asyncio.CancelledError:  # the thread stores them nevertheless
            self._retain(batches, finished)
            raise
        for batch in batches:
            self._stored(batch)
        self._forget_trimmed()
        if self._is_spilled or self._size > MEMORY:
            self._spill()
        return True

    def _retain(self, batches: list[Delivery], finished: list[Delivery]) -> None:
        """Put back the batches to store, in their order, and those to remove from the disk."""
        self._unstored = dict.fromkeys(batches) | self._unstored
        self._finished += finished

    def _write(self, disk_queue: DiskQueue, batches: list[Delivery], finished: list[Delivery]) -> None:
        """Store new batches. Runs in the thread.

        The disk must not drop and count batches that the bus may have already, or that were dropped meanwhile.
        """
        disk_queue.write(
            batches, finished, lambda: self._sending | {batch.message_id for batch in batches if batch.is_finished}
        )

    def _oldest(self, disk_queue: DiskQueue, count: int) -> list[Delivery]:
        """Read the next batches from the disk. Runs in the thread: no write may drop them in between."""
        return self._protect(disk_queue.oldest(count))

    def _protect(self, batches: list[Delivery]) -> list[Delivery]:
        """Protect batches from being dropped while they are sent: the bus may have them before it acknowledges."""
        self._sending = frozenset(batch.message_id for batch in batches)
        return batches

    def _stored(self, batch: Delivery) -> None:
        batch.report_durable()
        if batch.is_finished:  # meanwhile
            self._finished.append(batch)
            self._changed.set()

    def _forget_trimmed(self) -> None:
        """Skip batches that the full disk dropped: they are counted as lost, and must not be sent from memory."""
        for batch in self._queue:
            if batch.spool and batch.row <= batch.spool.trimmed and batch.message_id not in self._sending:
                batch.is_finished = True
        self._forget_finished()

    def _spill(self) -> None:
        """Drop from memory the batches that are on disk."""
        self._is_spilled = True
        self._queue = deque(batch for batch in self._queue if not (batch.spool or batch.is_finished))
        self._size = sum(len(batch.payload) for batch in self._queue)

    def _finish(self, batch: Delivery) -> None:
        batch.is_finished = True
        batch.report_durable()
        if not batch.spool:
            self._unstored.pop(batch, None)  # a disk that hangs must not keep what the bus has in memory
        if batch.spool and not self._is_spilled:
            self._finished.append(batch)
            self._changed.set()
        self._forget_finished()

    def _forget_finished(self) -> None:
        while self._queue and self._queue[0].is_finished:
            self._size -= len(self._queue.popleft().payload)

    def _drop_oldest(self) -> None:
        """Free a tenth of the limit at once, so that a long outage makes few EventsDropped events."""
        if self._disk_queue:
            self._spill()
        spared: list[Delivery] = []
        while self._queue and self._size > self._limit * ROOM:
            batch = self._queue.popleft()
            if batch.message_id in self._sending and not batch.is_finished:
                spared.append(batch)
                continue
            self._size -= len(batch.payload)
            if not batch.is_finished:
                self._drop(batch)
        self._queue.extendleft(reversed(spared))

    def _drop(self, batch: Delivery) -> None:
        """Drop a batch. Its sender must not keep it either: a batch that is counted as lost is never sent."""
        batch.is_finished = True
        self._unstored.pop(batch, None)
        batch.report_durable()
        self._count_lost(codec.kinds(batch.payload))

    def _count_lost(self, kinds: Counter[str]) -> None:
        if kinds and not self.lost:
            self._log.warning("events are dropped: the spool is full, or they cannot be sent")
        self.lost += kinds

    async def _attempt(self, call: Callable[..., T], *arguments: object) -> T:
        """Run a call on the disk queue in the thread. Raises SpoolError, which is logged."""
        try:
            result, lost = await self._in_thread(lambda: (call(*arguments), self._pop_lost()))
        except DamagedSpoolError as error:
            await self._discard_damaged(error)
            return await self._attempt(call, *arguments)
        except SpoolError as error:
            self._failed(call.__name__, str(error))
            raise
        self._succeeded(call.__name__)
        self._count_lost(lost)
        return result

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Run a call in the thread; a cancellation does not stop it halfway."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, call))

    def _pop_lost(self) -> Counter[str]:
        return self._disk_queue.pop_lost() if self._disk_queue else Counter()

    async def _discard_damaged(self, error: DamagedSpoolError) -> None:
        """Store the batches of a damaged file again that are still in memory; count the others as lost."""
        spool = error.spool
        if spool is None or self._disk_queue is None:
            raise error
        disk_queue = self._disk_queue
        await self._in_thread(lambda: disk_queue.discard_damaged(spool, error))
        kept = [batch for batch in self._queue if batch.spool is spool]
        finished = [batch for batch in self._finished if batch.spool is spool]
        lost = spool.events - sum(batch.events for batch in (*kept, *finished))
        for batch in kept:
            batch.spool = None
        self._unstored = dict.fromkeys(kept) | self._unstored
        self._changed.set()
        if lost > 0:
            self._count_lost(Counter({UNREADABLE: lost}))

    def _failed(self, what: str, reason: str) -> None:
        self._failing.add(what)
        self._outage.failed(reason)

    def _succeeded(self, what: str) -> None:
        """End the outage when all that failed has succeeded: a full disk can still be read."""
        self._failing.discard(what)
        if not self._failing:
            self._outage.recovered()


def _nothing() -> None:
    """Do nothing: a barrier, because the thread runs one call after the other."""
