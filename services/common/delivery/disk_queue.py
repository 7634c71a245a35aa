"""All that a service has on disk for the bus: what this process stored, and what dead ones of its service left there.

Bounded: when it is full the oldest batches go, and are counted by kind. Blocks, as
`services.common.delivery.spool_file` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from schemas import codec, handover, subjects
from services.common import log
from services.common.delivery.spool_file import (
    SUFFIX,
    DamagedSpoolError,
    OwnedSpoolError,
    QueuedBatch,
    Spool,
    SpoolError,
    files,
    set_aside,
)

FOLDER = "spool"
UNREADABLE = "unreadable"
"""Stands for the kinds of the events in a file that cannot be read."""

ROOM = 0.9
"""What is full is emptied down to this share of its limit, so that a long outage is told in few events."""

_TRIM_AT_ONCE = 64
_SHRINK_ABOVE = 8 << 20


class DiskQueue:
    """Methods raise SpoolError; after a DamagedSpoolError, call `discard_damaged` with its spool and try again."""

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
        """The events, by kind, that had to go since this was asked last."""
        lost, self._lost = self._lost, Counter()
        return lost

    def write(
        self,
        add: Sequence[QueuedBatch],
        remove: Sequence[QueuedBatch],
        spared: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        """Store batches, all or none, and forget others. What does not fit is dropped, the oldest first.

        `spared` names the message ids of those that are not to be dropped and counted here.
        """
        self._remove(remove)
        if add:
            self._own().append(add)
        if self.size > self._limit:
            while self.size > self._limit * ROOM and self._trim(spared()):
                pass

    def oldest(self, count: int) -> list[QueuedBatch]:
        """The batches that wait longest; those of dead processes first."""
        return next((batches for spool in self._spools if (batches := spool.oldest(count))), [])

    def sent(self, batches: Sequence[QueuedBatch]) -> None:
        """Forget batches that the bus has.

        Only what `oldest` gave says something about the rows before: a batch that was on its way from memory may have
        been stored behind the leftovers of a worker, which are still to be sent.
        """
        for batch in batches:
            if batch.spool and batch.is_read:
                batch.spool.sent = max(batch.spool.sent, batch.row)
        self._remove(batches)

    def adopt(self) -> int:
        """Take over what dead processes of this service left behind; how many batches that is."""
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
        """Let go of the files; what is in them is for the next one."""
        for spool in self._spools:
            spool.close()
        self._spools = []

    def _own(self) -> Spool:
        if not self._spools or self._spools[-1].path != self._path:
            self._spools.append(Spool(self._path))
        return self._spools[-1]

    def _remove(self, batches: Sequence[QueuedBatch]) -> None:
        for spool in list(self._spools):
            theirs = [batch for batch in batches if batch.spool is spool]
            if theirs:
                spool.remove(theirs)
                self._close_if_empty(spool)

    def _close_if_empty(self, spool: Spool) -> None:
        """The own file is kept at hand, unless it has grown."""
        if not spool.batches and (spool.path != self._path or spool.file_size() > _SHRINK_ABOVE):
            spool.close()
            self._spools.remove(spool)

    def _trim(self, spared: Collection[str]) -> bool:
        """Drop some of the oldest; report whether there were any."""
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
        """Batches in a plain file. It is gone once they are in the own one; a crash between repeats them."""
        try:
            found = handover.decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            self._lost[UNREADABLE] += 1
            self._log_damage(SpoolError(f"{path}: {error}"), set_aside(path))
            return
        batches = [
            QueuedBatch(subjects.events(self._service, one.app), one.message_id, one.events, one.payload)
            for one in found
        ]
        self._own().append(batches)
        path.unlink(missing_ok=True)

    def _log_damage(self, reason: Exception, aside: Path) -> None:
        self._log.error("a spool is damaged: its events are lost", reason=str(reason), kept_as=str(aside))
