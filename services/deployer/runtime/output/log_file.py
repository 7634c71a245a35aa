"""The files of a replica's output, read line by line while they grow and rotate."""

from __future__ import annotations

import bisect
import os
from pathlib import Path
from typing import IO

from services.deployer.runtime.entry import LONGEST_LINE, Entry
from services.deployer.runtime.replica_dir import ReplicaDirectory
from services.deployer.runtime.shim import NUMBER, TIMES

BLOCK = 1 << 16
ATTEMPTS = 10
"""Looks at files that are renamed meanwhile: a program would have to print 10 MiB during each."""


class _Opened:
    """One file of the output with its times. It stays the same file when it is renamed."""

    def __init__(self, path: Path) -> None:
        self.file: IO[bytes] = path.open("rb")
        self.identity = os.fstat(self.file.fileno()).st_ino
        self._times: IO[bytes] | None = None
        self._moments: list[float] = []
        self._offsets: list[int] = []
        times = path.with_name(path.name.replace("output.log", TIMES))
        if times.exists():
            self._times = times.open("rb")

    def close(self) -> None:
        self.file.close()
        if self._times:
            self._times.close()

    def moment(self, offset: int) -> float:
        """Return when the byte at an offset was printed. Without times, this is when the file was last written."""
        self._load()
        at = bisect.bisect_right(self._offsets, offset)
        return self._moments[at - 1] if at else os.fstat(self.file.fileno()).st_mtime

    def since(self, moment: float) -> int:
        """Return the offset before which everything was printed before a moment."""
        self._load()
        for time, offset in zip(reversed(self._moments), reversed(self._offsets), strict=True):
            if time < moment:
                return offset
        return 0

    def _load(self) -> None:
        """Read the records that are new."""
        data = self._times.read() if self._times else b""
        if self._times and (half := len(data) % (2 * NUMBER)):
            self._times.seek(-half, os.SEEK_CUR)
        for at in range(0, len(data) - 2 * NUMBER + 1, 2 * NUMBER):
            self._moments.append(int.from_bytes(data[at : at + NUMBER], "big") / 1e9)
            self._offsets.append(int.from_bytes(data[at + NUMBER : at + 2 * NUMBER], "big"))


class OutputLog:
    """The output of one replica, from a position on. Its methods read files: call them in a thread."""

    def __init__(self, folder: ReplicaDirectory, since: float = 0.0, tail: int = -1) -> None:
        """Begin with the last `tail` lines (-1: all), as far as they were printed at or after `since`."""
        self._folder = folder
        self._since = since
        self._current: _Opened | None = None
        self._next: _Opened | None = None
        self._has_gap = False
        self._rest = b""
        self._begin(tail)

    def close(self) -> None:
        """Close the files."""
        for opened in (self._current, self._next):
            if opened:
                opened.close()
        self._current = self._next = None

    def read(self) -> list[Entry]:
        """Return the next lines that are complete; none at the present end."""
        while True:
            if self._current and (data := self._current.file.read(BLOCK)):
                if found := self._lines(data):
                    return found
            elif self._next:
                cut = self.rest() if self._has_gap else []  # the end of that line is gone
                self._switch(self._next)
                if cut:
                    return cut
            else:
                # The end of a file is certain once there is a next one: it is read again before that one.
                self._next = self._find_next(self._current.identity if self._current else 0)
                if self._next is None:
                    return []

    def rest(self) -> list[Entry]:
        """Return the last line if no line end came after it."""
        rest, self._rest = self._rest, b""
        if not rest or self._current is None:
            return []
        entry = Entry(self._current.moment(max(self._current.file.tell() - len(rest), 0)), rest)
        return [entry] if entry.time >= self._since else []

    def _lines(self, data: bytes) -> list[Entry]:
        assert self._current
        offset = self._current.file.tell() - len(data) - len(self._rest)
        *complete, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in complete:
            time = self._current.moment(max(offset, 0))  # below 0: a rotation has cut the line in two
            offset += len(line) + 1
            if time >= self._since:
                found += [Entry(time, part) for part in _parts(line.removesuffix(b"\r"))]
        while len(self._rest) > LONGEST_LINE:
            found.append(Entry(self._current.moment(max(offset, 0)), self._rest[:LONGEST_LINE]))
            offset, self._rest = offset + LONGEST_LINE, self._rest[LONGEST_LINE:]
        return found

    def _find_next(self, after: int) -> _Opened | None:
        """Open the file after the one with this identity, if there is one.

        A file that was rotated away in the meantime is followed by the oldest that is left.
        """
        for _ in range(ATTEMPTS):
            files = [(path, identity) for path in self._folder.outputs if (identity := _identity(path))]
            known = [identity for _, identity in files]
            self._has_gap = after not in known
            index = 0 if self._has_gap else known.index(after) + 1
            if index >= len(files):
                return None
            path, identity = files[index]
            try:
                opened = _Opened(path)
            except OSError:
                continue
            if opened.identity == identity == _identity(path):
                return opened
            opened.close()  # a rotation has renamed the files meanwhile: look again
        return None

    def _switch(self, opened: _Opened) -> None:
        if self._current:
            self._current.close()
        self._current, self._next = opened, None

    def _begin(self, tail: int) -> None:
        """Go to the first wanted line."""
        wanted = tail
        for path in reversed(self._folder.outputs):
            try:
                opened = _Opened(path)
            except OSError:
                continue
            self._switch(opened)
            size = os.fstat(opened.file.fileno()).st_size
            start, found = _line_start(opened.file, opened.since(self._since)), 0
            if tail >= 0:
                at, found = _last_lines(opened.file, size, wanted)
                start = max(start, at)
            opened.file.seek(start)
            wanted -= found
            if start > 0 or (tail >= 0 and wanted <= 0):
                return


def _identity(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _parts(line: bytes) -> list[bytes]:
    return [line[at : at + LONGEST_LINE] for at in range(0, len(line), LONGEST_LINE)] or [b""]


def _line_start(file: IO[bytes], offset: int) -> int:
    """Return the beginning of the line that has the byte at an offset."""
    while offset > 0:
        begin = max(offset - BLOCK, 0)
        file.seek(begin)
        at = file.read(offset - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        offset = begin
    return 0


def _last_lines(file: IO[bytes], size: int, count: int) -> tuple[int, int]:
    """Return where the last `count` lines begin, and how many there are in this file."""
    if count <= 0:
        return size, 0
    end, found = size, 0
    file.seek(max(size - 1, 0))
    if size and file.read(1) != b"\n":
        found = 1  # the last line has no end yet
    at_end = found == 0
    while end > 0:
        begin = max(end - BLOCK, 0)
        file.seek(begin)
        block = file.read(end - begin)
        position = len(block)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            if at_end:  # the end of the last line begins no line
                at_end, found = False, 1
            elif found == count:
                return begin + position + 1, count
            else:
                found += 1
        end = begin
    return 0, found


def write(folder: ReplicaDirectory, lines: list[Entry]) -> None:
    """Write lines and their times as the output of a replica. Raises OSError."""
    text, records = bytearray(), bytearray()
    for line in lines:
        records += int(line.time * 1e9).to_bytes(NUMBER, "big") + len(text).to_bytes(NUMBER, "big")
        text += line.text + b"\n"
    for path, data in ((folder.output, text), (folder.output.with_name(TIMES), records)):
        path.touch(0o600)
        path.write_bytes(data)
