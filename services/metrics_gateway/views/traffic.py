"""The present traffic: rates and latencies between samples of the totals. Pure; the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import PortKey, State

INTERVAL = 2.0
"""Seconds between two samples."""

RATE_SAMPLES = 5
"""Intervals of a rate: ten seconds, short enough to follow, long enough not to jump."""

LATENCY_SAMPLES = 30
"""Intervals of the quantiles: a minute, as a quantile needs many connections."""

HISTORY = 60
"""Intervals of the history: two minutes."""


class PortTraffic(msgspec.Struct, frozen=True):
    """The present traffic of a port.

    Connections and errors a second are over the last ten seconds; the quantiles of the time to reach a backend, in
    seconds, over the last minute (None without connections). `history`: connections a second, over two seconds each,
    oldest first, for two minutes.
    """

    connections_per_second: float = 0.0
    errors_per_second: float = 0.0
    bytes_per_second: float = 0.0
    latency_p50: float | None = None
    latency_p99: float | None = None
    history: list[float] = []


class Sample(msgspec.Struct, frozen=True):
    """The totals of a port at one moment."""

    time: float
    connections: int
    errors: int
    bytes: int
    latency: tuple[int, ...]


class Traffic:
    """The last samples of each port."""

    def __init__(self) -> None:
        self._samples: dict[PortKey, deque[Sample]] = {}
        self._history: dict[PortKey, deque[float]] = {}

    def sample(self, state: State, now: float) -> None:
        """Take the totals of every port at `now`, on a clock that does not go back."""
        for key, port in state.ports.items():
            samples = self._samples.setdefault(key, deque(maxlen=LATENCY_SAMPLES + 1))
            samples.append(_sample(port, now))
            if len(samples) > 1:
                self._history.setdefault(key, deque(maxlen=HISTORY)).append(_rate(samples, 1, "connections"))

    def of(self, key: PortKey, bounds: Sequence[float]) -> PortTraffic:
        """Return the traffic of a port whose latency buckets have these `bounds`."""
        samples = self._samples.get(key)
        if not samples or len(samples) < 2:
            return PortTraffic()
        counts = [after - before for before, after in zip(samples[0].latency, samples[-1].latency, strict=False)]
        return PortTraffic(
            _rate(samples, RATE_SAMPLES, "connections"),
            _rate(samples, RATE_SAMPLES, "errors"),
            _rate(samples, RATE_SAMPLES, "bytes"),
            quantile(bounds, counts, 0.5),
            quantile(bounds, counts, 0.99),
            list(self._history[key]),
        )


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return the value below which `share` of the observations lie, interpolated linearly in each bucket.

    Like Prometheus, it returns the last bound for values beyond it. None without observations.
    """
    wanted = sum(counts) * share
    below = 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= wanted:
            lower = bounds[index - 1] if index else 0.0
            return lower + (bounds[index] - lower) * (wanted - below) / count
        below += count
    return bounds[-1] if sum(counts) else None


def _sample(port: Port, now: float) -> Sample:
    return Sample(now, port.connections, port.errors, port.bytes, tuple(port.latency.counts))


def _rate(samples: Sequence[Sample], span: int, total: str) -> float:
    """Return the growth of a total per second, over the last `span` intervals or as many as there are."""
    before, after = samples[max(len(samples) - 1 - span, 0)], samples[-1]
    seconds = after.time - before.time
    grown: int = getattr(after, total) - getattr(before, total)
    return round(max(grown, 0) / seconds, 3) if seconds > 0 else 0.0
