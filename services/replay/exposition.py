"""Replayed metrics as text: as in a scrape, as OpenMetrics with timestamps, or as JSON."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from itertools import accumulate

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from services.common.errors import LongshoreError
from services.metrics_gateway.export import text_format
from services.metrics_gateway.export.prometheus import families
from services.metrics_gateway.instruments.instrument import Instrument, Labels, Value
from services.metrics_gateway.state.histogram import Histogram
from services.replay.measure import Readings

WITHOUT_ZERO = ("dewy.container.last_terminated.exit_code", "dewy.container.started.timestamp")
"""Gauges for which 0 is a real value: an exit status, a time."""


class Point(msgspec.Struct, frozen=True):
    """One series at one moment. `value` is that of a counter or gauge, the last three are a histogram's."""

    metric: str
    prometheus: str
    labels: dict[str, str]
    time: float
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    buckets: dict[str, int] | None = None


def text(readings: Readings) -> str:
    """Return the readings as in a scrape."""
    return text_format.text(metric for one, values in readings for metric in families(one, values)).decode()


def points(readings: Readings, time: float) -> Iterator[Point]:
    """Yield a point for each series."""
    for instrument, values in readings:
        for labels, value in values:
            yield _point(instrument, labels, value, time)


class Series:
    """Samples of many moments, as OpenMetrics, which wants each series in one piece.

    They wait in a temporary file, so memory grows with the number of series, not of samples. Leaving the block raises
    LongshoreError if the disk has no room for it.

    A gauge that is gone has a last sample of 0, or NaN where 0 is a real value. A scrape marks such a series as stale,
    but the format cannot, and a store would repeat its last value for minutes.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, tuple[int, Metric]] = {}
        self._series: dict[tuple[str, Labels], int] = {}
        self._present: dict[str, set[Labels]] = {}
        self._samples = sqlite3.connect("", isolation_level=None)
        self._samples.execute("CREATE TABLE samples (metric INTEGER, series INTEGER, time REAL, lines TEXT)")
        self._samples.execute("BEGIN")

    def add(self, readings: Readings, time: float) -> None:
        """Add the readings of a moment, later than those before."""
        self._samples.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", self._rows(readings, time))

    def write(self, write: Callable[[str], object]) -> None:
        """Write everything, as a text that ends with # EOF."""
        heads = {number: text_format.openmetrics_head(metric) for number, metric in self._metrics.values()}
        last = None
        for metric, lines in self._samples.execute("SELECT metric, lines FROM samples ORDER BY metric, series, time"):
            if metric != last:
                write(heads[metric])
                last = metric
            write(lines)
        write("# EOF\n")

    def __enter__(self) -> Series:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._samples.close()
        if isinstance(error, sqlite3.Error):
            raise LongshoreError(
                f"the temporary file for the samples: {error}: set TMPDIR to a folder with more room"
            ) from error

    def _gone(self, instrument: Instrument, found: list[tuple[Labels, Value]]) -> list[tuple[Labels, Value]]:
        """Return a last value for each series of a gauge that was there at the moment before and is not now."""
        if instrument.kind not in ("gauge", "updowncounter"):
            return []
        before, now = self._present.get(instrument.name, set()), {labels for labels, _ in found}
        self._present[instrument.name] = now
        return [(labels, math.nan if instrument.name in WITHOUT_ZERO else 0) for labels in before - now]

    def _rows(self, readings: Readings, time: float) -> Iterator[tuple[int, int, float, str]]:
        for instrument, values in readings:
            for labels, value in [*values, *self._gone(instrument, values)]:
                for metric in families(instrument, [(labels, value)]):
                    number = self._metrics.setdefault(metric.name, (len(self._metrics), metric))[0]
                    series = self._series.setdefault((metric.name, labels), len(self._series))
                    lines = [text_format.sample_line(sample, time) for sample in metric.samples]
                    yield number, series, time, "".join(lines)


def _point(instrument: Instrument, labels: Labels, value: Value, time: float) -> Point:
    named = dict(zip(instrument.labels, labels, strict=True))
    if isinstance(value, Histogram):
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        buckets = dict(zip(bounds, accumulate(value.counts), strict=True))
        return Point(instrument.name, instrument.prometheus, named, time, None, value.count, value.sum, buckets)
    return Point(instrument.name, instrument.prometheus, named, time, value)
