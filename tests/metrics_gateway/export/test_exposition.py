"""The two text formats: what the metrics library writes, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from services.metrics_gateway.export import text_format
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.state.state import State

VALUES = st.floats() | st.integers(0, 1 << 70)
TEXTS = st.text()


class Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


@given(label=TEXTS, documentation=TEXTS, value=VALUES, exemplar=TEXTS, time=st.floats(0, 1e10) | st.none())
def test_every_kind_of_metric_is_written_as_the_library_does(
    label: str, documentation: str, value: float, exemplar: str, time: float | None
) -> None:
    metrics = [
        _added(CounterMetricFamily("a_counter", documentation, labels=["b", "a"]), ["x", label], value),
        _added(GaugeMetricFamily("a_gauge", documentation, labels=["l"]), [label], value),
        _added(UnknownMetricFamily("a_number", documentation, labels=["l"]), [label], value),
        CounterMetricFamily("without_series", documentation),
        GaugeMetricFamily("without_labels", documentation, value=value),
        InfoMetricFamily("target", documentation, {"name": label}),
        _histogram(documentation, label, value, Exemplar({"trace_id": exemplar}, 0.5, time)),
    ]
    _compare(metrics)


def _compare(metrics: list[Metric]) -> None:
    assert text_format.text(metrics) == _library(generate_latest, metrics)
    assert text_format.openmetrics(metrics) == _library(generate_openmetrics, metrics)


def _library(generate: object, metrics: list[Metric]) -> bytes:
    assert callable(generate)
    written: bytes = generate(Given(metrics))
    return written


def _added(
    family: CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily, labels: list[str], value: float
) -> Metric:
    family.add_metric(labels, value)
    return family


def _histogram(documentation: str, label: str, value: float, exemplar: Exemplar) -> Metric:
    family = HistogramMetricFamily("a_histogram", documentation, labels=["l"])
    family.add_metric([label], [("0.1", 1.0), ("1.0", 2.0, exemplar), ("+Inf", value)], value)
    return family


@pytest.mark.parametrize("value", [0, 1, -1, 1e-9, 1e21, 123456789012345678, float("inf"), float("-inf")])
def test_numbers_are_written_as_the_library_does(value: float) -> None:
    _compare([GaugeMetricFamily("a_gauge", "", value=value)])


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6",
        "application/openmetrics-text;version=1.0.0;escaping=values;q=0.5,text/plain;q=0.2",
        "application/openmetrics-text",
    ],
)
def test_the_answer_to_a_scrape_is_what_its_content_type_says(accept: str) -> None:
    resource = {"service.name": "longshore", "9th-attribute": 'a "b"'}
    exporter = Exporter(lambda: Measurement(State(), 1.0, "1.0", True, {}), resource)
    answer = exporter.expose(accept, "")
    is_openmetrics = accept.startswith("application/openmetrics-text")
    generate = generate_openmetrics if is_openmetrics else generate_latest
    assert answer.body == _library(generate, list(exporter.collect()))
    assert answer.headers["content-type"].startswith("application/openmetrics-text" if is_openmetrics else "text/plain")
    assert 'service_name="longshore"' in answer.body.decode()
    assert '_9th_attribute="a \\"b\\""' in answer.body.decode()
