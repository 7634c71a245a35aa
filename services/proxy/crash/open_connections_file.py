"""What is still open in workers that accept no more: each has a file about it, for the master that comes next.

The lock on a file tells whether its worker lives. A file says nothing of connections while the worker accepts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection
from pathlib import Path

import msgspec

SUFFIX = ".open"


class Open(msgspec.Struct, array_like=True, frozen=True):
    """The connections of a worker to each backend of a port, None as long as it has not counted them."""

    app: str
    port: int
    backends: dict[str, int] | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Open])


def delete(folder: str, name: str) -> None:
    """Remove the file of a worker that is dead."""
    if folder:
        _path(folder, name).unlink(missing_ok=True)


class OpenConnectionsFile:
    """The worker's file. Where it cannot be written, the next master knows nothing of this worker."""

    def __init__(self, folder: str, name: str) -> None:
        self._path = _path(folder, name)
        self._fd = -1
        self._written: list[Open] = []
        if folder:
            with contextlib.suppress(OSError):
                self._create(self._path.with_suffix(".unlocked"))

    def write(self, opened: list[Open]) -> None:
        """Replace what the file says."""
        if self._fd < 0 or opened == self._written:
            return
        self._written = opened
        with contextlib.suppress(OSError):
            content = _encoder.encode(opened)
            os.ftruncate(self._fd, os.pwrite(self._fd, content, 0))

    def _create(self, unlocked: Path) -> None:
        """Nobody is to see it before it is locked."""
        unlocked.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(unlocked, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        unlocked.rename(self._path)

    def remove(self) -> None:
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


class PreviousWorkers:
    """The workers with these ports (`app` and number) that are there when a master starts, before it has its own."""

    def __init__(self, folder: str, ports: Collection[tuple[str, int]]) -> None:
        self._ports = ports
        self._paths = sorted(Path(folder).glob(f"*{SUFFIX}")) if folder else []
        self._last: dict[Path, list[Open]] = {}

    def poll(self) -> list[Open]:
        """What those who still live have open; the files of the others are removed."""
        self._paths = [path for path in self._paths if self._lives(path)]
        opened = [each for path in self._paths for each in self._last.get(path, [])]
        return [each for each in opened if (each.app, each.port) in self._ports]

    def _lives(self, path: Path) -> bool:
        try:
            with path.open("rb") as file:
                if _is_locked(file.fileno()):
                    self._read(path, file.read())
                    return True
            path.unlink(missing_ok=True)
        except OSError:  # it has just removed its file
            pass
        return False

    def _read(self, path: Path, content: bytes) -> None:
        # It is being written: what it said before still holds. msgspec lets the other two errors through.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._last[path] = _decoder.decode(content)


def _path(folder: str, name: str) -> Path:
    return Path(folder) / f"{name}{SUFFIX}"


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
