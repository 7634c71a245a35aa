"""The catalogue over OTLP/gRPC: observable instruments for what is one number, ready data points for histograms.

The SDK's synchronous instruments could not be restored after a restart and cost more than the whole fold; its
observable ones read the state. They have no histograms, so those join what the SDK has collected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge, ObservableUpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource

from services.common.lifecycle import VERSION
from services.metrics_gateway.instrument import Instrument, Labels, Moment
from services.metrics_gateway.instruments import INSTRUMENTS
from services.metrics_gateway.state import Histogram

SCOPE = "longshore"
SERIES_LIMIT = 1_000_000
"""The SDK merges what is above its limit; the state is bounded already, and a push must equal a scrape."""

_KINDS = (ObservableCounter, ObservableUpDownCounter, ObservableGauge)


class Collector:
    """The metrics of one moment in the SDK's form. `temporality` is what the exporter prefers for each kind."""

    def __init__(
        self,
        moment: Callable[[], Moment],
        resource: Resource,
        temporality: Mapping[type, AggregationTemporality] | None,
    ) -> None:
        self._moment = moment
        self._now = moment()
        self._started = time.time_ns()
        self._reader = InMemoryMetricReader(dict(temporality or {}), None, dict.fromkeys(_KINDS, SERIES_LIMIT))
        self._provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        meter = self._provider.get_meter(SCOPE, VERSION)
        create = {
            "counter": meter.create_observable_counter,
            "updowncounter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for one in INSTRUMENTS:
            if one.kind != "histogram":
                create[one.kind](one.name, [self._observer(one)], one.unit, one.description)

    def collect(self) -> MetricsData:
        """All metrics as they are now."""
        self._now = self._moment()
        collected = self._reader.get_metrics_data()
        if collected is None:
            return MetricsData([])
        histograms = [self._histogram(one) for one in INSTRUMENTS if one.kind == "histogram"]
        (resource,) = collected.resource_metrics
        (scope,) = resource.scope_metrics
        scope = replace(scope, metrics=[*scope.metrics, *histograms])
        return MetricsData([replace(resource, scope_metrics=[scope])])

    def close(self) -> None:
        self._provider.shutdown()

    def _observer(self, instrument: Instrument) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            for labels, value in instrument.read(self._now):
                if not isinstance(value, Histogram):
                    yield Observation(value, _attributes(instrument, labels))

        return observe

    def _histogram(self, instrument: Instrument) -> Metric:
        points = [
            self._point(_attributes(instrument, labels), value)
            for labels, value in instrument.read(self._now)
            if isinstance(value, Histogram)
        ]
        data = HistogramData(points, AggregationTemporality.CUMULATIVE)
        return Metric(instrument.name, instrument.description, instrument.unit, data)

    def _point(self, attributes: dict[str, str], histogram: Histogram) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._started,
            time_unix_nano=int(self._now.now * 1e9),
            count=histogram.count,
            sum=histogram.sum,
            bucket_counts=list(histogram.counts),
            explicit_bounds=histogram.bounds,
            min=None,  # type: ignore[arg-type]  # optional in OTLP and in the encoder, only not in this type
            max=None,  # type: ignore[arg-type]
        )


def _attributes(instrument: Instrument, labels: Labels) -> dict[str, str]:
    return dict(zip(instrument.labels, labels, strict=True))
