"""Batches on disk until the bus has taken them: one SQLite file for each process that has some.

SQLite's exclusive lock shows whether the process that owns a file still runs; the next process takes over the file of a
dead one. A commit survives the death of the process, and a reboot. A power cut may undo commits that the operating
system has not written yet (`synchronous=NORMAL`), and leaves the file whole.

All calls block: make them in a thread, always in the same one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import msgspec

from schemas import subjects
from schemas.chain import SealedBatch

SUFFIX = ".spool"
DAMAGED = ".damaged"
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    row INTEGER PRIMARY KEY, subject TEXT NOT NULL, id TEXT NOT NULL, events INTEGER NOT NULL, payload BLOB NOT NULL
)"""


class SpoolError(Exception):
    """The disk is full, read-only or failing. The content of the file stays."""


class DamagedSpoolError(SpoolError):
    """The file cannot be read: it is damaged, or no spool. `spool`: the spool that was open."""

    spool: Spool | None = None


class OwnedSpoolError(SpoolError):
    """The process that owns the file runs."""


class Delivery(msgspec.Struct, eq=False):
    """The delivery of a sealed batch to the bus, under `subject`, and the place of the batch on disk if it has one.

    `is_finished`: the bus has acknowledged it, or it was dropped. `on_durable` is called once the bus or the disk has
    it, or it was dropped. `is_read`: it was read from the disk, after all batches before it.
    """

    subject: str
    message_id: str
    events: int
    payload: bytes
    row: int = 0
    spool: Spool | None = None
    is_finished: bool = False
    on_durable: Callable[[], None] | None = None
    is_read: bool = False

    def report_durable(self) -> None:
        """Call `on_durable`, once."""
        if self.on_durable:
            self.on_durable()
            self.on_durable = None


def delivery(service: str, batch: SealedBatch, on_durable: Callable[[], None] | None = None) -> Delivery:
    """Return the delivery of a batch of this service that is not on disk yet."""
    subject = subjects.events(service, batch.app)
    return Delivery(subject, batch.message_id, batch.events, batch.payload, on_durable=on_durable)


class Spool:
    """A file that this process owns while it is open. Every method raises SpoolError.

    `sent`: all batches up to this row were sent, whether or not they could be removed; `trimmed`: unsent batches up to
    this row were dropped.
    """

    def __init__(self, path: Path) -> None:
        """Create the file, or take it over. Raises OwnedSpoolError if another process has it."""
        self.path = path
        self.sent = self.trimmed = 0
        self.batches = self.events = self.size = self._last = 0
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def append(self, batches: Sequence[Delivery]) -> None:
        """Store batches, all or none."""
        rows = [
            (self._last + n, batch.subject, batch.message_id, batch.events, batch.payload)
            for n, batch in enumerate(batches, 1)
        ]
        with self._transaction():
            self._connection.executemany("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", rows)
        for batch, (row, *_) in zip(batches, rows, strict=True):
            batch.row, batch.spool = row, self
        self._last += len(rows)
        self._count([(batch.events, len(batch.payload)) for batch in batches], 1)

    def oldest(self, count: int) -> list[Delivery]:
        """Return at most `count` of the oldest batches."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT subject, id, events, payload, row FROM batches WHERE row > ? ORDER BY row LIMIT ?",
                (self.sent, count),
            ).fetchall()
        return [
            Delivery(subject, id_, events, payload, row, self, is_read=True)
            for subject, id_, events, payload, row in rows
        ]

    def remove(self, batches: Sequence[Delivery]) -> None:
        """Forget batches, which need not be in the file."""
        removed: list[tuple[int, int]] = []
        with self._transaction():
            for batch in batches:
                removed += self._connection.execute(
                    "DELETE FROM batches WHERE row = ? RETURNING events, length(payload)", (batch.row,)
                ).fetchall()
        self._count(removed, -1)

    def trim(self, count: int, spared: Container[str] = ()) -> list[Delivery]:
        """Drop at most `count` of the oldest batches, except those whose message ids are `spared`."""
        batches = [batch for batch in self.oldest(count) if batch.message_id not in spared]
        self.remove(batches)
        self.trimmed = max([self.trimmed, *(batch.row for batch in batches)])
        return batches

    def file_size(self) -> int:
        """Return the size of the file on disk in bytes, free pages included."""
        with self._errors():
            return self.path.stat().st_size

    def close(self) -> None:
        """Close the file, and remove it if it is empty."""
        with contextlib.suppress(SpoolError), self._errors():
            if not self.batches:
                self._unlink()
            self._connection.close()

    def set_aside(self) -> Path:
        """Close a damaged file, and rename it so that no process takes it for a spool."""
        self._connection.close()
        return set_aside(self.path)

    def _open(self) -> None:
        with self._errors():
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
                self._connection.execute(f"PRAGMA {pragma}")
        with self._transaction():
            self._connection.execute(_SCHEMA)
            totals = self._connection.execute(
                "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(payload)), 0), coalesce(max(row), 0) "
                "FROM batches"
            ).fetchone()
        self.batches, self.events, self.size, self._last = totals
        if not self.path.exists():
            raise OwnedSpoolError(f"{self.path}: removed by another process")

    def _count(self, changes: Sequence[tuple[int, int]], sign: int) -> None:
        self.batches += sign * len(changes)
        self.events += sign * sum(events for events, _ in changes)
        self.size += sign * sum(size for _, size in changes)

    def _unlink(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # some errors have rolled it back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            problem = _problem(self.path, error)
            if isinstance(problem, DamagedSpoolError):
                problem.spool = self
            raise problem from error
        except OSError as error:
            raise SpoolError(f"{self.path}: {error.strerror}") from error


def files(directory: Path, service: str, suffix: str) -> list[Path]:
    """Return the files of a service, the oldest first."""
    return sorted(directory.glob(f"{service}-*{suffix}"))


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its write-ahead log, in case an operator wants to repair it."""
    aside = path.with_suffix(DAMAGED)
    with contextlib.suppress(OSError):
        path.rename(aside)
        path.with_name(path.name + "-wal").rename(aside.with_name(aside.name + "-wal"))
    return aside


def _problem(path: Path, error: sqlite3.Error) -> SpoolError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
    if code in _BUSY:
        return OwnedSpoolError(f"{path}: in use by another process")
    if code in _DAMAGED:
        return DamagedSpoolError(f"{path}: {error}")
    return SpoolError(f"{path}: {error}")
