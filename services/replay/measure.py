"""The readings of the gateway's instruments from a replayed state."""

from __future__ import annotations

from typing import TypeAlias

from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Instrument, Labels, Measurement, Value
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.state.state import State

Readings: TypeAlias = list[tuple[Instrument, list[tuple[Labels, Value]]]]

APP = "app"


def measure(state: State, now: float, app: str = "") -> Readings:
    """Return every metric of the log as a gateway would have shown it at `now` (unix seconds); of one app if named.

    Metrics about the running gateway are left out.
    """
    measurement = Measurement(state, now, "", True, {})
    instruments = [one for one in INSTRUMENTS if not one.of_process and (not app or APP in one.labels)]
    return [
        (one, [item for item in one.read(measurement) if not app or _app(one, item[0]) == app]) for one in instruments
    ]


def kept(readings: Readings) -> Readings:
    """Return readings that do not change when the state does."""
    return [(one, [(labels, _copy(value)) for labels, value in values]) for one, values in readings]


def increase(readings: Readings, totals: Readings, before: Readings) -> Readings:
    """Return the growth of counters and histograms of `totals` since `before`, and the other `readings`."""
    earlier = {(one.name, labels): value for one, values in before for labels, value in values}
    return [
        (one, [(labels, _grown(value, earlier.get((one.name, labels)))) for labels, value in summed])
        if one.kind in ("counter", "histogram")
        else (one, values)
        for (one, values), (_, summed) in zip(readings, totals, strict=True)
    ]


def _app(instrument: Instrument, labels: Labels) -> str:
    return labels[instrument.labels.index(APP)]


def _copy(value: Value) -> Value:
    if isinstance(value, Histogram):
        return Histogram(value.bounds, list(value.counts), value.nanoseconds)
    return value


def _grown(value: Value, before: Value | None) -> Value:
    """Return the difference. A counter that is lower than before has started again, after damage to the log."""
    if isinstance(value, Histogram):
        if not isinstance(before, Histogram):
            return value
        counts = [now - then for now, then in zip(value.counts, before.counts, strict=True)]
        return Histogram(value.bounds, counts, value.nanoseconds - before.nanoseconds)
    if before is None or isinstance(before, Histogram) or value < before:
        return value
    return value - before
