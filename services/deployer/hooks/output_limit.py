"""The beginning of an output: as many lines as a log should hold. Pure."""

from __future__ import annotations

from services.common.text import printable

MOST_LINES = 200
MOST_BYTES = 64 * 1024


class OutputLimit:
    """Takes bytes as they come, and returns lines. `omitted`: the number of bytes beyond the limits so far."""

    def __init__(self, lines: int = MOST_LINES, size: int = MOST_BYTES) -> None:
        self.omitted = 0
        self._lines = lines
        self._room = size
        self._started = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now."""
        kept = data[: self._room]
        self._room -= len(kept)
        self.omitted += len(data) - len(kept)
        *complete, self._started = (self._started + kept).split(b"\n")
        return self._take(complete, ending=1)

    def end(self) -> list[str]:
        """Return the last line if no newline ended it."""
        rest, self._started = self._started, b""
        return self._take([rest] if rest else [], ending=0)

    def _take(self, lines: list[bytes], ending: int) -> list[str]:
        taken, rest = lines[: self._lines], lines[self._lines :]
        self._lines -= len(taken)
        self.omitted += sum(len(line) + ending for line in rest)
        return [printable(line.decode(errors="replace")) for line in taken]
