"""The formats in which an engine sends the output of a container. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import msgspec

HEADER = 8
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
    """Takes the parts of a log with times, and returns its lines. The engine may send a line in several parts."""

    def __init__(self) -> None:
        self._rests = {1: b"", STDERR: b""}

    def feed(self, part: Part) -> Iterator[Stamped]:
        """Yield the lines that are complete now."""
        source = STDERR if part.source == STDERR else 1
        *complete, self._rests[source] = (self._rests[source] + part.data).split(b"\n")
        yield from (_stamped(line, source) for line in complete)

    def end(self) -> Iterator[Stamped]:
        """Yield the last lines, which have no line end."""
        yield from (_stamped(rest, source) for source, rest in self._rests.items() if rest)


def _stamped(line: bytes, source: int) -> Stamped:
    stamp, _, text = line.partition(b" ")
    try:
        moment = nanoseconds(stamp.decode())
    except ValueError:  # an engine without times
        moment, text = 0, line
    return Stamped(moment, text.removesuffix(b"\r"), source == STDERR)


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
