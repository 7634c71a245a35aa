"""Histograms of durations.

Sums are whole nanoseconds: integers give the same sum in any order, floats do not.
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
    """An observed duration in seconds, its time (unix seconds), and the span that explains it (W3C ids)."""

    trace: str
    span: str
    seconds: float
    time: float


class Histogram(msgspec.Struct):
    """The number of durations in each bucket; the last count is for those above all bounds.

    `exemplars` holds the newest exemplar of each bucket that has one.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    nanoseconds: int = 0
    exemplars: dict[int, Exemplar] = {}

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Histogram:
        """Return an empty histogram with these bounds."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        """Add a duration. A negative one, from a clock that was set back, counts as 0."""
        if seconds < 0.0:
            seconds = 0.0
        nanoseconds = int(seconds * 1e9 + 0.5)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.nanoseconds += nanoseconds

    def add_exemplar(self, exemplar: Exemplar) -> None:
        """Keep an exemplar, if it is the newest of its bucket."""
        bucket = bisect_left(self.bounds, exemplar.seconds)
        known = self.exemplars.get(bucket)
        if not known or known.time <= exemplar.time:
            self.exemplars[bucket] = exemplar

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    @property
    def sum(self) -> float:
        """The sum of all durations, in seconds."""
        return self.nanoseconds / 1e9
