"""The catalogue on /metrics, as prometheus_client's metric families."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from schemas.limits import LARGEST
from services.metrics_gateway.export import negotiation, text_format
from services.metrics_gateway.export.negotiation import Form
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Instrument, Labels, Measurement, Value
from services.metrics_gateway.state.histogram import Histogram

Values: TypeAlias = list[tuple[Labels, Value]]

_COMPRESSION_LEVEL = 1  # the fold waits meanwhile, and a higher level takes longer and saves little
_WRITERS: dict[Form, Callable[[Iterator[Metric]], bytes]] = {
    "openmetrics": text_format.openmetrics,
    "text": text_format.text,
}
_CONTENT_TYPES: dict[Form, str] = {
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "text": "text/plain; version=0.0.4; charset=utf-8",
}
_NO_LABEL = re.compile(r"\W|^(?=\d)", re.ASCII)


class Exposition(msgspec.Struct, frozen=True):
    """The body and the headers of an answer to a scrape."""

    body: bytes
    headers: dict[str, str]


class Exporter:
    """Renders the present state on request. `resource` becomes target_info, as a collector does it."""

    def __init__(self, measure: Callable[[], Measurement], resource: Mapping[str, object]) -> None:
        self._measure = measure
        self._resource = {_NO_LABEL.sub("_", name): str(value) for name, value in resource.items()}

    def expose(self, accept: str, accept_encoding: str) -> Exposition:
        """Return the metrics as text or OpenMetrics, compressed if the request allows it."""
        chosen = negotiation.form(accept)
        body = _WRITERS[chosen](self.collect())
        headers = {"content-type": _CONTENT_TYPES[chosen], "vary": "accept, accept-encoding"}
        if negotiation.accepts_gzip(accept_encoding):
            body = gzip.compress(body, _COMPRESSION_LEVEL)
            headers["content-encoding"] = "gzip"
        return Exposition(body, headers)

    def collect(self) -> Iterator[Metric]:
        """Yield the resource, which OpenMetrics wants first, and every metric."""
        yield InfoMetricFamily("target", "The resource that these metrics belong to", self._resource)
        measurement = self._measure()
        for instrument in INSTRUMENTS:
            yield from families(instrument, list(instrument.read(measurement)))


def families(instrument: Instrument, values: Values) -> Iterator[Metric]:
    """Yield the values of an instrument under each of its names."""
    for name in (instrument.prometheus, *instrument.aliases):
        yield _family(name, instrument, values)


def _family(name: str, instrument: Instrument, values: Values) -> Metric:
    """Return one metric. It gets no unit: the library would append it to a name that is final."""
    if instrument.kind == "histogram":
        return _histogram(name, instrument, values)
    kind = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    family = kind(name, instrument.description, labels=instrument.labels)
    for labels, value in values:
        if not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family


def _histogram(name: str, instrument: Instrument, values: Values) -> Metric:
    family = HistogramMetricFamily(name, instrument.description, labels=instrument.labels)
    for labels, value in values:
        if isinstance(value, Histogram):
            family.add_metric(labels, _buckets(value), value.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    buckets: list[Any] = list(zip(bounds, accumulate(histogram.counts), strict=True))
    for bucket, one in histogram.exemplars.items():
        time = one.time if 0 <= one.time < LARGEST else None
        buckets[bucket] += (Exemplar({"trace_id": one.trace, "span_id": one.span}, one.seconds, time),)
    return buckets
