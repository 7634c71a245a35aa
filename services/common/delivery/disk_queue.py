"""The batches of a service on disk: those of this process, and those that its dead processes left there.

Bounded: when it is full, the oldest batches are dropped, and counted by kind. Calls block, as those of
`services.common.delivery.spool_file` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from schemas import codec, handover
from services.common import log
from services.common.delivery.spool_file import (
    SUFFIX,
    DamagedSpoolError,
    Delivery,
    OwnedSpoolError,
    Spool,
    SpoolError,
    delivery,
    files,
    set_aside,
)

FOLDER = "spool"
UNREADABLE = "unreadable"
"""The kind of the events in a file that cannot be read."""

ROOM = 0.9
"""A full queue is emptied down to this share of its limit, so that a long outage makes few EventsDropped events."""

_TRIM_AT_ONCE = 64
_SHRINK_ABOVE = 8 << 20
"""Bytes: SQLite never gives pages back, so a larger file that is empty is closed, which removes it."""


class DiskQueue:
    """The queue over all spool files. Methods raise SpoolError; on DamagedSpoolError, call `discard_damaged`, retry."""

    def __init__(self, directory: Path, service: str, instance: str, limit: int) -> None:
        """`limit`: bytes of batches."""
        self._directory = directory
        self._service = service
        self._path = directory / f"{service}-{instance}{SUFFIX}"
        self._limit = limit
        self._spools: list[Spool] = []
        self._lost: Counter[str] = Counter()
        self._log = log.get(service)

    @property
    def batches(self) -> int:
        return sum(spool.batches for spool in self._spools)

    @property
    def size(self) -> int:
        """Bytes of batches."""
        return sum(spool.size for spool in self._spools)

    def pop_lost(self) -> Counter[str]:
        """Return the events that were dropped since the last call, by kind."""
        lost, self._lost = self._lost, Counter()
        return lost

    def write(
        self,
        add: Sequence[Delivery],
        remove: Sequence[Delivery],
        spared: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """Store the batches in `add`, all or none, and forget those in `remove`. Drop the oldest when there is no room.

        `spared` returns the message ids of batches that must not be dropped and counted here.
        """
        self._remove(remove)
        if add:
            self._own().append(add)
        if self.size > self._limit:
            while self.size > self._limit * ROOM and self._trim(spared()):
                pass

    def oldest(self, count: int) -> list[Delivery]:
        """Return the oldest batches; those of dead processes come first."""
        return next((batches for spool in self._spools if (batches := spool.oldest(count))), [])

    def sent(self, batches: Sequence[Delivery]) -> None:
        """Forget batches that the bus has.

        Only a batch from `oldest` proves that the rows before it were sent: a batch that was sent from memory may have
        been stored behind the batches of a worker, which are still to be sent.
        """
        for batch in batches:
            if batch.spool and batch.is_read:
                batch.spool.sent = max(batch.spool.sent, batch.row)
        self._remove(batches)

    def adopt(self) -> int:
        """Take over the files of dead processes of this service. Return the number of batches in them."""
        before = self.batches
        known = {self._path, *(spool.path for spool in self._spools)}
        for path in files(self._directory, self._service, SUFFIX):
            if path not in known:
                self._adopt(path)
        for path in files(self._directory, self._service, handover.SUFFIX):
            self._import_handover(path)
        return self.batches - before

    def discard_damaged(self, spool: Spool, reason: SpoolError) -> None:
        """Set a damaged file aside."""
        self._spools = [one for one in self._spools if one is not spool]
        self._log_damage(reason, spool.set_aside())

    def close(self) -> None:
        """Close the files; their batches are for the next process."""
        for spool in self._spools:
            spool.close()
        self._spools = []

    def _own(self) -> Spool:
        if not self._spools or self._spools[-1].path != self._path:
            self._spools.append(Spool(self._path))
        return self._spools[-1]

    def _remove(self, batches: Sequence[Delivery]) -> None:
        for spool in list(self._spools):
            theirs = [batch for batch in batches if batch.spool is spool]
            if theirs:
                spool.remove(theirs)
                self._close_if_empty(spool)

    def _close_if_empty(self, spool: Spool) -> None:
        """Close an empty file; this process' own stays open, unless it has grown."""
        if not spool.batches and (spool.path != self._path or spool.file_size() > _SHRINK_ABOVE):
            spool.close()
            self._spools.remove(spool)

    def _trim(self, spared: Collection[str]) -> bool:
        """Drop some of the oldest batches. Return whether there were any."""
        for spool in list(self._spools):
            batches = spool.trim(_TRIM_AT_ONCE + len(spared), spared)
            self._close_if_empty(spool)
            for batch in batches:
                self._lost += codec.kinds(batch.payload)
            if batches:
                return True
        return False

    def _adopt(self, path: Path) -> None:
        try:
            spool = Spool(path)
        except OwnedSpoolError:
            return
        except DamagedSpoolError as error:
            self._lost[UNREADABLE] += 1
            self._log_damage(error, set_aside(path))
            return
        self._spools.insert(max(0, len(self._spools) - 1) if self._has_own() else len(self._spools), spool)
        self._close_if_empty(spool)

    def _has_own(self) -> bool:
        return bool(self._spools) and self._spools[-1].path == self._path

    def _import_handover(self, path: Path) -> None:
        """Move the batches of a worker's file to the own one; a crash in between repeats them."""
        try:
            found = handover.decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            self._lost[UNREADABLE] += 1
            self._log_damage(SpoolError(f"{path}: {error}"), set_aside(path))
            return
        self._own().append([delivery(self._service, batch) for batch in found])
        path.unlink(missing_ok=True)

    def _log_damage(self, reason: Exception, aside: Path) -> None:
        self._log.error("a spool is damaged: its events are lost", reason=str(reason), kept_as=str(aside))
