"""The folder of one replica: its record on disk, for the deployer that started it and for the next one."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shutil
from pathlib import Path

import msgspec

from schemas.events import UNSEEN
from services.common.files import replace_atomically
from services.deployer.runtime.entry import Kept
from services.deployer.runtime.protocol import Exit, Found, Running
from services.deployer.runtime.shim import LOG_FILES

KEPT_FOLDERS = 10
"""Folders of ended replicas that are kept: enough to compare the outputs of a crash loop."""


def replica_folder(state_dir: str, app: str) -> Path:
    """Return the parent of the folders of an application's replicas."""
    return Path(state_dir) / "replicas" / app


class Record(msgspec.Struct, frozen=True):
    """A replica as it was started.

    `port`: that of a process, or the one that the image of a container exposes. `digest`: that of the image.
    `revision`: the deployment that it belongs to. `options`: the fingerprint of its options.
    """

    id: str
    release: str
    slot: int
    port: int
    digest: str = ""
    options: str = ""
    drain_signal: str = ""
    revision: str = ""


class Started(msgspec.Struct, frozen=True):
    """The process ids of a replica's shim and of its program."""

    shim: int
    program: int


class ReplicaDirectory:
    """`<state_dir>/replicas/<app>/<replica>`. The shim writes `started` and `exited` (see shim.py)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = path / "output.log"

    @property
    def outputs(self) -> list[Path]:
        """The files of the output, the oldest first (see shim.py). Not all of them exist."""
        rotated = [self.output.with_name(f"{self.output.name}.{number}") for number in range(LOG_FILES - 1, 0, -1)]
        return [*rotated, self.output]

    def last_output(self, size: int) -> bytes:
        """Return the last bytes of the output."""
        data = b""
        for file in reversed(self.outputs):
            if len(data) < size:
                data = _last_bytes(file, size - len(data)) + data
        return data

    def create(self, record: Record) -> None:
        """Create the folder with its record."""
        replace_atomically(self.path / "replica.json", msgspec.json.encode(record))

    @property
    def record(self) -> Record | None:
        """None when the folder was never finished, or is damaged."""
        try:
            return msgspec.json.decode((self.path / "replica.json").read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def kept(self) -> Kept | None:
        """The replica as its folder shows it, None when the folder is damaged or is just being removed."""
        record, started, ended = self.record, self._changed("replica.json"), self.ended
        if record is None or started is None:
            return None
        return Kept(record.id, record.slot, started, math.inf if ended is None else ended)

    @property
    def started(self) -> Started | None:
        """The process ids, None if the shim has not written them."""
        try:
            shim, program = (self.path / "started").read_text().split()
            return Started(int(shim), int(program))
        except (OSError, ValueError):
            return None

    @property
    def exit_code(self) -> int:
        """The exit code that the shim wrote, or UNSEEN."""
        try:
            return int((self.path / "exited").read_text())
        except (OSError, ValueError):
            return UNSEEN

    @property
    def is_stopping(self) -> bool:
        """The replica was asked to stop."""
        return (self.path / "stopping").exists()

    def mark_stopping(self) -> None:
        """Note that the replica was asked to stop."""
        self._mark("stopping")

    @property
    def is_draining(self) -> bool:
        """The replica got its drain signal."""
        return (self.path / "draining").exists()

    def mark_draining(self) -> None:
        """Note that the replica got its drain signal."""
        self._mark("draining")

    @property
    def is_forgotten(self) -> bool:
        """The exit of the replica is recorded."""
        return self.ended is not None

    @property
    def ended(self) -> float | None:
        """When the exit of the replica was recorded (unix seconds), None if it was not."""
        return self._changed("forgotten")

    def mark_forgotten(self) -> None:
        """Note that the exit of the replica is recorded."""
        self._mark("forgotten")

    def lock(self) -> int:
        """Return a descriptor of the lock that the shim holds for life."""
        return self._lock(fcntl.LOCK_EX)

    @property
    def is_alive(self) -> bool:
        """The shim lives: it holds its lock. A process id alone proves nothing."""
        try:
            os.close(self._lock(fcntl.LOCK_SH))
        except BlockingIOError:
            return True
        except FileNotFoundError:  # the folder was removed
            return False
        return False

    def open_shim(self, started: Started) -> int | None:
        """Return a descriptor of the living shim, None if it has ended. Its lock proves that its id is not reused."""
        try:
            descriptor = os.pidfd_open(started.shim)
        except ProcessLookupError:
            return None
        if self.is_alive:
            return descriptor
        os.close(descriptor)
        return None

    def _changed(self, name: str) -> float | None:
        """Return when a file was last written, None if there is none."""
        try:
            return (self.path / name).stat().st_mtime
        except OSError:
            return None

    def _mark(self, name: str) -> None:
        """Write a mark. If a full disk refuses it, an exit is only recorded twice."""
        with contextlib.suppress(OSError):
            (self.path / name).touch()

    def _lock(self, kind: int) -> int:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise
        return descriptor


def folders(root: Path) -> list[ReplicaDirectory]:
    """Return the folders of replicas in `root`, sorted by name."""
    return [ReplicaDirectory(path) for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []


def kept(root: Path) -> list[Kept]:
    """Return the replicas whose folders are in `root`, the one that was started first at the beginning."""
    replicas = [one for folder in folders(root) if (one := folder.kept)]
    return sorted(replicas, key=lambda one: (one.started, one.id))


def _last_bytes(file: Path, size: int) -> bytes:
    """Return the end of a file, empty if it cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(opened.seek(0, os.SEEK_END) - size, 0))
            return opened.read(size)
    except OSError:
        return b""


def found(record: Record, folder: ReplicaDirectory, running: Running | None, end: Exit | None = None) -> Found:
    """Return a replica of an earlier deployer as a runtime reports it."""
    return Found(
        record.id,
        record.release,
        record.slot,
        running,
        end,
        revision=record.revision,
        options=record.options if record.revision else "",  # an earlier version had other fingerprints
        stopping=folder.is_stopping,
        draining=folder.is_draining,
    )


def prune(root: Path) -> None:
    """Remove the folders of ended replicas but the last few, whose output may explain their exits."""
    ended = [(at, folder) for folder in folders(root) if (at := folder.ended) is not None and not folder.is_alive]
    for _, folder in sorted(ended, key=lambda one: one[0])[:-KEPT_FOLDERS]:
        shutil.rmtree(folder.path, ignore_errors=True)
