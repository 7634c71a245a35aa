"""Exponential back-off. Pure: the caller waits."""

from __future__ import annotations


def delay(first: float, longest: float, failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: `first`, doubled each time, up to `longest`."""
    return min(first * 2.0 ** min(failures - 1, 60), longest) if failures > 0 else 0.0


class Backoff:
    """The delays of failures in a row, from `first` up to `longest` seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def next(self) -> float:
        """Count a failure, and return the seconds to wait before the next attempt."""
        self._failures += 1
        return delay(self._first, self._longest, self._failures)

    def reset(self) -> None:
        """Start from the first delay again."""
        self._failures = 0
