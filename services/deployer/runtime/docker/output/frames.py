"""The formats in which an engine sends the output of a container. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import msgspec

from services.deployer.runtime.entry import LONGEST_LINE

HEADER = 8
STAMP = 64
"""Bytes within which a time and the space after it end; it has 36 at most."""
STDERR = 2


class Part(msgspec.Struct, frozen=True):
    """Some output. `source`: 1 for standard output, 2 for standard error."""

    source: int
    data: bytes


class Demultiplexer:
    """Takes bytes as they come, and returns the output in them. With a terminal, an engine sends it without headers."""

    def __init__(self, has_terminal: bool) -> None:
        self._has_terminal = has_terminal
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Part]:
        """Yield the parts that are complete now."""
        if self._has_terminal:
            yield Part(1, data)
            return
        self._rest += data
        while len(self._rest) >= HEADER:
            size = int.from_bytes(self._rest[4:HEADER], "big")
            if len(self._rest) < HEADER + size:
                return
            yield Part(self._rest[0], self._rest[HEADER : HEADER + size])
            self._rest = self._rest[HEADER + size :]


class Stamped(msgspec.Struct, frozen=True):
    """A line with the time that the engine has for it, in nanoseconds since 1970."""

    nanoseconds: int
    text: bytes
    is_error: bool

    @property
    def time(self) -> float:
        return self.nanoseconds / 1e9


class Lines:
    """Takes the parts of a log with times, and returns its lines; one of more than LONGEST_LINE bytes in pieces.

    The engine sends a long line in several parts, each with a time.
    """

    def __init__(self) -> None:
        self._rests = {1: b"", STDERR: b""}

    def feed(self, part: Part) -> Iterator[Stamped]:
        """Yield the lines that are complete now."""
        source = STDERR if part.source == STDERR else 1
        rest, data = self._rests[source], part.data
        if _time(rest)[0]:
            data = _time(data)[2]
        *complete, rest = (rest + data).split(b"\n")
        for line in complete:
            yield from _pieces(line.removesuffix(b"\r"), source)
        *pieces, last = _pieces(rest, source)
        yield from pieces
        self._rests[source] = _time(rest)[1] + last.text if pieces else rest

    def end(self) -> Iterator[Stamped]:
        """Yield the last lines, which have no line end."""
        for source, rest in self._rests.items():
            if rest:
                yield from _pieces(rest.removesuffix(b"\r"), source)


def _pieces(line: bytes, source: int) -> Iterator[Stamped]:
    moment, _, text = _time(line)
    for at in range(0, max(len(text), 1), LONGEST_LINE):
        yield Stamped(moment, text[at : at + LONGEST_LINE], source == STDERR)


def _time(line: bytes) -> tuple[int, bytes, bytes]:
    """Return the time at the beginning of a message (0: an engine without times), its bytes, and the text after it."""
    stamp, space, text = line[:STAMP].partition(b" ")
    try:
        return nanoseconds(stamp.decode()), stamp + space, text + line[STAMP:]
    except ValueError:
        return 0, b"", line


def nanoseconds(stamp: str) -> int:
    """Return a time as engines write it (RFC 3339 with nanoseconds). Raises ValueError."""
    whole = datetime.datetime.fromisoformat(stamp)
    seconds = int(whole.replace(microsecond=0).timestamp())
    digits = stamp.partition(".")[2][:9].rstrip("Z")
    fraction = digits[: next((at for at, sign in enumerate(digits) if not sign.isdigit()), len(digits))]
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def since(moment: int) -> str:
    """Return a time as the engine takes it in a query: seconds with nanoseconds."""
    return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}"
