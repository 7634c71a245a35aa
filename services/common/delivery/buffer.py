"""Parcels between their sealing and the bus: in memory, and on disk as well once they have waited for a moment.

While the bus is away for long they are on disk only. When the disk does not take them they stay in memory, up to a
limit; what goes then is counted by kind. Only `window` and `settle` wait for the disk: recording never does.
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
from services.common.delivery.disk_queue import ROOM, UNREADABLE, Backlog
from services.common.delivery.spool_file import DamagedSpoolError, Parcel, SpoolError

GRACE = 0.005
"""Seconds that the bus has to take a parcel before it is written to disk."""

MEMORY = 4 << 20
"""Bytes of stored parcels that are kept in memory, too."""

RETRY = 2.0
ADOPT_INTERVAL = 5.0

T = TypeVar("T")


class Buffer:
    """`lost` counts, by kind, the events that were dropped. `ready` is set when there may be something to send."""

    def __init__(self, service: str, backlog: Backlog | None, limit: int) -> None:
        """`limit`: bytes of parcels in memory that are not on disk."""
        self.lost: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._backlog = backlog
        self._limit = limit
        self._queue: deque[Parcel] = deque()
        self._size = 0
        self._unstored: dict[Parcel, None] = {}
        self._sending: frozenset[str] = frozenset()
        self._settled: list[Parcel] = []
        self._is_spilled = False
        self._failing: set[str] = set()
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"{service}-spool")
        self._log = log.get(service)

    @property
    def batches(self) -> int:
        """How many parcels the bus has not taken yet."""
        return len(self._queue) + (self._backlog.batches if self._backlog and self._is_spilled else 0)

    @property
    def size(self) -> int:
        """Bytes of parcels that the bus has not taken yet."""
        return self._size + (self._backlog.size if self._backlog and self._is_spilled else 0)

    def take_lost(self) -> Counter[str]:
        """What was dropped since this was asked last."""
        lost, self.lost = self.lost, Counter()
        return lost

    def add(self, parcel: Parcel) -> None:
        """One more to send."""
        self._queue.append(parcel)
        self._size += len(parcel.payload)
        if self._backlog:
            self._unstored[parcel] = None
            self._changed.set()
        if self._size > self._limit:
            self._drop_oldest()
        self.ready.set()

    def drop(self, parcels: Sequence[Parcel]) -> None:
        """Count parcels as lost that the bus will never take."""
        for parcel in parcels:
            self._lose(codec.kinds(parcel.payload))

    async def window(self, count: int) -> list[Parcel]:
        """The parcels that wait longest, at most so many. Settle them all before asking again."""
        if self._backlog and self._is_spilled:
            try:
                parcels = await self._attempt(self._oldest, self._backlog, count)
            except SpoolError:
                parcels = []
            if parcels:
                return parcels
            self._is_spilled = bool(self._failing) and bool(self._backlog.batches)
        return self._send([parcel for parcel in islice(self._queue, count) if not parcel.is_settled])

    async def settle(self, parcels: Sequence[Parcel]) -> None:
        """The bus has these."""
        for parcel in parcels:
            self._settle(parcel)
        stored = [parcel for parcel in parcels if parcel.spool]
        if self._backlog and self._is_spilled and stored:
            with contextlib.suppress(SpoolError):  # told; they are not sent again by this process
                await self._attempt(self._backlog.sent, stored)

    async def keep(self) -> None:
        """Write to disk what the bus does not take at once, until cancelled."""
        while self._backlog:
            await self._changed.wait()
            await asyncio.sleep(GRACE)
            self._changed.clear()
            if not await self._store(self._backlog):
                self._changed.set()
                await asyncio.sleep(RETRY)

    async def adopt(self) -> None:
        """Take over what dead processes leave behind, until cancelled."""
        while self._backlog:
            with contextlib.suppress(SpoolError):
                found = await self._attempt(self._backlog.adopt)
                if found:
                    self._log.info("sending what an earlier process could not send", batches=found)
                    self._spill()
                    self.ready.set()
            await asyncio.sleep(ADOPT_INTERVAL)

    async def close(self) -> None:
        """Write everything to disk that the bus has not taken, and let go of the files."""
        if self._backlog:
            with contextlib.suppress(SpoolError):
                await self._attempt(_nothing)  # what was under way has ended now
                await self._store(self._backlog)
                await self._attempt(self._backlog.close)
        self._thread.shutdown()

    async def _store(self, backlog: Backlog) -> bool:
        """Whether the disk has taken all that is new."""
        parcels = [parcel for parcel in self._unstored if not (parcel.is_settled or parcel.spool)]
        settled = self._settled + [parcel for parcel in self._unstored if parcel.is_settled and parcel.spool]
        self._unstored, self._settled = {}, []
        if not (parcels or settled):
            return True
        try:
            await self._attempt(self._write, backlog, parcels, settled)
        except SpoolError:
            self._retain([parcel for parcel in parcels if not parcel.is_settled], settled)
            return False
        except asyncio.CancelledError:  # the thread stores them nevertheless
            self._retain(parcels, settled)
            raise
        for parcel in parcels:
            self._stored(parcel)
        self._forget_trimmed()
        if self._is_spilled or self._size > MEMORY:
            self._spill()
        return True

    def _retain(self, parcels: list[Parcel], settled: list[Parcel]) -> None:
        """Put back what is to be stored, in its order, and what is to be removed."""
        self._unstored = dict.fromkeys(parcels) | self._unstored
        self._settled += settled

    def _write(self, backlog: Backlog, parcels: list[Parcel], settled: list[Parcel]) -> None:
        """Store what is new. Runs in the thread.

        What the bus may have already, and what was dropped and counted meanwhile, must not be counted by the disk.
        """
        backlog.write(
            parcels, settled, lambda: self._sending | {parcel.message_id for parcel in parcels if parcel.is_settled}
        )

    def _oldest(self, backlog: Backlog, count: int) -> list[Parcel]:
        """Read the next window from the disk. Runs in the thread: no write may drop it in between."""
        return self._send(backlog.oldest(count))

    def _send(self, parcels: list[Parcel]) -> list[Parcel]:
        """Keep these from being dropped until the next window: the bus may have them before it says so."""
        self._sending = frozenset(parcel.message_id for parcel in parcels)
        return parcels

    def _stored(self, parcel: Parcel) -> None:
        _tell_safe(parcel)
        if parcel.is_settled:  # meanwhile
            self._settled.append(parcel)
            self._changed.set()

    def _forget_trimmed(self) -> None:
        """What had to go from the disk is not sent from memory: it is counted as lost."""
        for parcel in self._queue:
            if parcel.spool and parcel.row <= parcel.spool.trimmed and parcel.message_id not in self._sending:
                parcel.is_settled = True
        self._forget_settled()

    def _spill(self) -> None:
        """Keep in memory only what is not on disk."""
        self._is_spilled = True
        self._queue = deque(parcel for parcel in self._queue if not (parcel.spool or parcel.is_settled))
        self._size = sum(len(parcel.payload) for parcel in self._queue)

    def _settle(self, parcel: Parcel) -> None:
        parcel.is_settled = True
        _tell_safe(parcel)
        if not parcel.spool:
            self._unstored.pop(parcel, None)  # a disk that hangs must not keep what the bus has in memory
        if parcel.spool and not self._is_spilled:
            self._settled.append(parcel)
            self._changed.set()
        self._forget_settled()

    def _forget_settled(self) -> None:
        while self._queue and self._queue[0].is_settled:
            self._size -= len(self._queue.popleft().payload)

    def _drop_oldest(self) -> None:
        """Make room for a tenth of the limit at once, so that a long outage is told in few events."""
        if self._backlog:
            self._spill()
        spared: list[Parcel] = []
        while self._queue and self._size > self._limit * ROOM:
            parcel = self._queue.popleft()
            if parcel.message_id in self._sending and not parcel.is_settled:
                spared.append(parcel)
                continue
            self._size -= len(parcel.payload)
            if not parcel.is_settled:
                self._drop(parcel)
        self._queue.extendleft(reversed(spared))

    def _drop(self, parcel: Parcel) -> None:
        """Its sender must not keep it either: what is counted as lost is never sent."""
        parcel.is_settled = True
        self._unstored.pop(parcel, None)
        _tell_safe(parcel)
        self._lose(codec.kinds(parcel.payload))

    def _lose(self, kinds: Counter[str]) -> None:
        if kinds and not self.lost:
            self._log.warning("events are dropped: the spool is full, or they cannot be sent")
        self.lost += kinds

    async def _attempt(self, call: Callable[..., T], *arguments: object) -> T:
        """Have the thread do something with the backlog. Raises SpoolError, which was told."""
        try:
            result, lost = await self._in_thread(lambda: (call(*arguments), self._take_lost()))
        except DamagedSpoolError as error:
            await self._give_up(error)
            return await self._attempt(call, *arguments)
        except SpoolError as error:
            self._failed(call.__name__, str(error))
            raise
        self._succeeded(call.__name__)
        self._lose(lost)
        return result

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """A cancellation does not stop it half-way."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, call))

    def _take_lost(self) -> Counter[str]:
        return self._backlog.take_lost() if self._backlog else Counter()

    async def _give_up(self, error: DamagedSpoolError) -> None:
        """Write again what is still in memory; the rest of a damaged file is lost."""
        spool = error.spool
        if spool is None or self._backlog is None:
            raise error
        backlog = self._backlog
        await self._in_thread(lambda: backlog.give_up(spool, error))
        kept = [parcel for parcel in self._queue if parcel.spool is spool]
        settled = [parcel for parcel in self._settled if parcel.spool is spool]
        lost = spool.events - sum(parcel.events for parcel in (*kept, *settled))
        for parcel in kept:
            parcel.spool = None
        self._unstored = dict.fromkeys(kept) | self._unstored
        self._changed.set()
        if lost > 0:
            self._lose(Counter({UNREADABLE: lost}))

    def _failed(self, what: str, reason: str) -> None:
        if not self._failing:
            self._log.warning("cannot use the spool: events wait in memory", reason=reason)
        self._failing.add(what)

    def _succeeded(self, what: str) -> None:
        """A full disk can still be read: all that failed must succeed."""
        was_failing = bool(self._failing)
        self._failing.discard(what)
        if was_failing and not self._failing:
            self._log.info("the spool is used again")


def _tell_safe(parcel: Parcel) -> None:
    if parcel.on_safe:
        parcel.on_safe()
        parcel.on_safe = None


def _nothing() -> None:
    """A barrier: the thread does one thing after the other."""
