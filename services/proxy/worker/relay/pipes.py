"""Pipes for splicing: bulk data moves from socket to socket without a copy in this process."""

from __future__ import annotations

import contextlib
import fcntl
import os

CAPACITY = 1 << 20  # bytes: the default of /proc/sys/fs/pipe-max-size
MOST_IN_USE = 64  # beyond that bytes are copied: the pipes would hold 64 MiB
MOST_KEPT = 8


class Pipe:
    """A pipe, and how many bytes are in it."""

    __slots__ = ("filled", "reader", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.filled = 0
        with contextlib.suppress(OSError):  # above the user's limit for pipe buffers: the default size works too
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, CAPACITY)

    def fill(self, source: int) -> int:
        """Read from a socket; return 0 at its end. Raises BlockingIOError: it is empty, OSError: it is reset."""
        count = os.splice(source, self.writer, CAPACITY, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        self.filled += count
        return count

    def empty(self, sink: int) -> int:
        """Write to a socket. Raises BlockingIOError when it is full, OSError when it is reset."""
        count = os.splice(self.reader, sink, self.filled, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
        self.filled -= count
        return count

    def close(self) -> None:
        """Close both ends."""
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """A pool of pipes with bounds for those in use and those kept."""

    def __init__(self, most_in_use: int) -> None:
        self._most = most_in_use
        self._in_use = 0
        self._kept: list[Pipe] = []

    def take(self) -> Pipe | None:
        """Return an empty pipe, None when none is left."""
        if self._in_use >= self._most:
            return None
        try:
            pipe = self._kept.pop() if self._kept else Pipe()
        except OSError:
            return None
        self._in_use += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; close one with bytes left in it."""
        self._in_use -= 1
        if pipe.filled or len(self._kept) >= MOST_KEPT:
            pipe.close()
        else:
            self._kept.append(pipe)
