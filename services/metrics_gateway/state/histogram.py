"""Durations in buckets.

They are summed in whole nanoseconds: integers give the same sum in any order, floats do not.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

CONNECTION_DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
CONNECT_LATENCY = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
HOLD_DURATION = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DEPLOYMENT_DURATION = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
PHASE_DURATION = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
HEALTHCHECK_DURATION = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
EVENT_LAG = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Exemplar(msgspec.Struct, frozen=True):
    """One duration that was observed, in seconds, when (unix seconds), and the span that tells of it (W3C ids)."""

    trace: str
    span: str
    seconds: float
    time: float


class Histogram(msgspec.Struct):
    """How many durations fell at or below each bound and above the one before; the last count is above all.

    `exemplars` holds the newest of each count, where there is one.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    nanoseconds: int = 0
    exemplars: dict[int, Exemplar] = {}

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        """Add one duration; one below zero, by a clock that was set back, is none."""
        if seconds < 0.0:
            seconds = 0.0
        nanoseconds = int(seconds * 1e9 + 0.5)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.nanoseconds += nanoseconds

    def add_exemplar(self, exemplar: Exemplar) -> None:
        """Name a span for a duration that was observed."""
        bucket = bisect_left(self.bounds, exemplar.seconds)
        known = self.exemplars.get(bucket)
        if not known or known.time <= exemplar.time:
            self.exemplars[bucket] = exemplar

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def sum(self) -> float:
        """All durations together, in seconds."""
        return self.nanoseconds / 1e9
