"""The part of a log to replay. No clock."""

from __future__ import annotations

import math
import re
from datetime import datetime

import msgspec

from services.common.errors import SettingsError

EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_800.0
"""The years 1 to 9999, in unix seconds. Farther away, the steps between floats are longer than those of a series."""

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class LogPosition(msgspec.Struct, frozen=True):
    """A position in a log: a sequence of the stream, or a time (unix seconds)."""

    sequence: int | None = None
    time: float | None = None

    def is_passed(self, sequence: int, time: float) -> bool:
        """Return whether a message comes after this position."""
        if self.sequence is not None:
            return sequence > self.sequence
        return self.time is not None and time > self.time

    def is_reached(self, sequence: int, time: float) -> bool:
        """Return whether a message is at this position or after it."""
        if self.sequence is not None:
            return sequence >= self.sequence
        return self.time is None or time >= self.time


class LogRange(msgspec.Struct, frozen=True):
    """A part of a log, both ends included. An end that is None is open."""

    first: LogPosition | None = None
    last: LogPosition | None = None

    def is_over(self, sequence: int, time: float) -> bool:
        """Return whether a message comes after the range."""
        return self.last is not None and self.last.is_passed(sequence, time)

    def has_begun(self, sequence: int, time: float) -> bool:
        """Return whether a message does not come before the range."""
        return self.first is None or self.first.is_reached(sequence, time)


def parse_range(first: str, last: str) -> LogRange:
    """Return the range of --from and --until; empty for an open end. Raises SettingsError."""
    found = LogRange(
        parse_position("--from", first) if first else None, parse_position("--until", last) if last else None
    )
    if _is_reversed(found):
        raise SettingsError(f"--from {first} is after --until {last}: swap them")
    return found


def parse_position(option: str, text: str) -> LogPosition:
    """Return a position: a sequence (1200), an ISO 8601 time, or unix seconds after an @. Raises SettingsError.

    A time without a zone is local, like those that the command line prints.
    """
    if text.isascii() and text.isdigit():
        return LogPosition(sequence=int(text))
    try:
        seconds = float(text[1:]) if text.startswith("@") else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        seconds = math.nan
    if not EARLIEST <= seconds < LATEST:
        raise SettingsError(
            f"{option} {text!r}: use a sequence (1200), a time (2026-11-21T14:05:00Z) or unix seconds (@1795269900)"
        )
    return LogPosition(time=seconds)


def parse_duration(option: str, text: str) -> float:
    """Return the seconds of 15s, 500ms, 1m, 2h, 1d or a plain number. Raises SettingsError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0.001 <= seconds < 1e9:
        raise SettingsError(f"{option} {text!r}: use a duration such as 500ms, 15s, 1m or 2h")
    return seconds


def _is_reversed(found: LogRange) -> bool:
    first, last = found.first or LogPosition(), found.last or LogPosition()
    if first.sequence is not None and last.sequence is not None:
        return first.sequence > last.sequence
    return first.time is not None and last.time is not None and first.time > last.time
