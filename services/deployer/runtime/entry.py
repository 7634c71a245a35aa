"""Outputs, and lines of them. Pure."""

from __future__ import annotations

import math

import msgspec

LONGEST_LINE = 1 << 14
"""Bytes after which a line comes in parts, as Docker does it: a program may print no line end at all."""


class Entry(msgspec.Struct, frozen=True):
    """A line of the output, without its end, and when it began to be printed (unix seconds)."""

    time: float
    text: bytes
    is_error: bool = False


class Kept(msgspec.Struct, frozen=True):
    """A replica whose output is kept: when it was started and when it ended (unix seconds; inf: it runs)."""

    id: str
    slot: int
    started: float
    ended: float

    @property
    def runs(self) -> bool:
        """It has not ended."""
        return math.isinf(self.ended)
