"""The catalogue in OTLP: data points straight from the state, cumulative or as deltas since a push.

The SDK's instruments cannot be restored after a restart, do not take finished histograms, and lose the deltas of a push
that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID, uuid5

import msgspec
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Instrument, Kind, Labels, Measurement, Value
from services.metrics_gateway.state.histogram import Histogram

SCOPE = "longshore"

INSTANCES = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""The namespace that the semantic conventions reserve for a service.instance.id made of stable names."""

POINTS = 5000
"""Data points in one request, unless one metric has more: collectors refuse requests above 4 MiB."""

LARGEST = 2**63
"""OTLP has integers of 64 bits; larger sums become floats, as they are on /metrics."""

Values: TypeAlias = dict[Labels, Value]


_values = msgspec.msgpack.Decoder(dict[str, Values])


@dataclass(frozen=True)
class Taken:
    """The values at one moment, copied so that the fold does not change them."""

    measurement: Measurement
    values: dict[str, Values]


@dataclass(frozen=True)
class Push:
    """One request, and the values in it for `Collector.pushed`. `time` is in unix nanoseconds."""

    data: MetricsData
    values: dict[str, Values]
    time: int


class Collector:
    """Makes requests out of all metrics.

    `resource` is the same in every process that pushes, so that series continue over restarts and takeovers. The
    instance is the log that is counted, unless the resource names one. Instruments of a kind in `delta` have the growth
    since the last push that arrived, of this gateway or of the one before it (`pushed_values`, `start_from`).
    """

    def __init__(self, measure: Callable[[], Measurement], resource: Resource, delta: Set[Kind]) -> None:
        self._measure = measure
        self._resource = resource
        self._delta = delta
        self._before: dict[str, Values] = {}
        self._since: dict[str, int] = {}
        self._began = time.time_ns()

    @property
    def is_delta(self) -> bool:
        """Whether any instrument is pushed as deltas."""
        return bool(self._delta)

    def pushed_values(self) -> bytes:
        """Return the values of the log that the receiver has, for the next gateway that pushes."""
        values = {one.name: self._before[one.name] for one in _of_log(self._delta) if one.name in self._before}
        return msgspec.msgpack.encode(values)

    def start_from(self, pushed: bytes | None) -> None:
        """Continue after an earlier gateway. Raises MsgspecError for bytes that are not of `pushed_values`."""
        self._before |= _values.decode(pushed) if pushed else {}
        self._since = dict.fromkeys((one.name for one in _of_log(self._delta)), time.time_ns())

    def take(self) -> Taken:
        """Return all metrics as they are now."""
        measurement = self._measure()
        return Taken(measurement, {one.name: _copied(one, measurement) for one in INSTRUMENTS})

    def requests(self, taken: Taken) -> list[Push]:
        """Return the requests, as many as needed. This takes long, so call it in a thread."""
        measurement = taken.measurement
        pushes: list[Push] = []
        metrics: list[Metric] = []
        values: dict[str, Values] = {}
        count = 0
        for instrument in INSTRUMENTS:
            found = taken.values[instrument.name]
            if count and count + len(found) > POINTS:
                pushes.append(self._push(metrics, values, measurement))
                metrics, values, count = [], {}, 0
            metrics.append(self._metric(instrument, found, measurement))
            values[instrument.name] = found
            count += len(found)
        return [*pushes, self._push(metrics, values, measurement)]

    def pushed(self, push: Push) -> None:
        """Note that the receiver has the values of a request."""
        self._before.update(push.values)
        self._since.update(dict.fromkeys(push.values, push.time))

    def _push(self, metrics: list[Metric], values: dict[str, Values], measurement: Measurement) -> Push:
        scope = ScopeMetrics(
            InstrumentationScope(SCOPE), metrics, ""
        )  # a version would be part of the identity of each series
        resource = identified(self._resource, measurement.state.log)
        data = MetricsData([ResourceMetrics(resource, [scope], resource.schema_url)])
        return Push(data, values, _nanoseconds(measurement.now))

    def _metric(self, instrument: Instrument, values: Values, measurement: Measurement) -> Metric:
        since = self._start(instrument, measurement)
        points = [self._point(instrument, labels, value, since, measurement) for labels, value in values.items()]
        data = _data(instrument, points, self._temporality(instrument))
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _start(self, instrument: Instrument, measurement: Measurement) -> int:
        """Return the beginning of the counting: for cumulative values of the log, when the log began."""
        if self._temporality(instrument) is AggregationTemporality.DELTA:
            return self._since.get(instrument.name, self._began)
        return self._began if instrument.of_process else _nanoseconds(measurement.state.began)

    def _temporality(self, instrument: Instrument) -> AggregationTemporality:
        is_delta = instrument.kind in self._delta
        return AggregationTemporality.DELTA if is_delta else AggregationTemporality.CUMULATIVE

    def _point(
        self, instrument: Instrument, labels: Labels, value: Value, since: int, measurement: Measurement
    ) -> NumberDataPoint | HistogramDataPoint:
        attributes = dict(zip(instrument.labels, labels, strict=True))
        if self._temporality(instrument) is AggregationTemporality.DELTA:
            value = _added(value, self._before.get(instrument.name, {}).get(labels))
        now = _nanoseconds(measurement.now)
        if not isinstance(value, Histogram):
            return NumberDataPoint(attributes, since, now, value if abs(value) < LARGEST else float(value))
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=value.count,
            sum=value.sum,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
            min=None,  # type: ignore[arg-type]  # optional in OTLP and in the encoder, only not in this type
            max=None,  # type: ignore[arg-type]
        )


def identified(resource: Resource, log: str) -> Resource:
    """Return the resource, with an instance id for the log that was created at `log`."""
    return Resource({"service.instance.id": str(uuid5(INSTANCES, log))}).merge(resource)


def _of_log(kinds: Set[Kind]) -> list[Instrument]:
    return [one for one in INSTRUMENTS if one.kind in kinds and not one.of_process]


def _data(
    instrument: Instrument, points: list[NumberDataPoint | HistogramDataPoint], temporality: AggregationTemporality
) -> Sum | Gauge | HistogramData:
    if instrument.kind == "histogram":
        return HistogramData([one for one in points if isinstance(one, HistogramDataPoint)], temporality)
    numbers = [one for one in points if isinstance(one, NumberDataPoint)]
    if instrument.kind == "gauge":
        return Gauge(numbers)
    return Sum(numbers, temporality, is_monotonic=instrument.kind == "counter")


def _copied(instrument: Instrument, measurement: Measurement) -> Values:
    return dict(_frozen(instrument.read(measurement)))


def _frozen(items: Iterator[tuple[Labels, Value]]) -> Iterator[tuple[Labels, Value]]:
    for labels, value in items:
        if isinstance(value, Histogram):
            yield labels, Histogram(value.bounds, list(value.counts), value.nanoseconds)
        else:
            yield labels, value


def _added(value: Value, before: Value | None) -> Value:
    """Return the growth since `before`, or the whole value if it started again."""
    if isinstance(value, Histogram):
        return _added_to_histogram(value, before) if isinstance(before, Histogram) else value
    return value - before if isinstance(before, int | float) and before <= value else value


def _added_to_histogram(value: Histogram, before: Histogram) -> Histogram:
    counts = [now - then for now, then in zip(value.counts, before.counts, strict=True)]
    if min(counts) < 0:
        return value
    return Histogram(value.bounds, counts, value.nanoseconds - before.nanoseconds)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
