"""Pushing to real OTLP/gRPC receivers."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc  # type: ignore[import-untyped]  # it comes without types
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from prometheus_client.parser import text_string_to_metric_families

from services.common.bus import Bus
from services.metrics_gateway.instrument import Instrument
from services.metrics_gateway.instruments import INSTRUMENTS
from services.metrics_gateway.push import export_interval
from tests.conftest import free_port
from tests.gateway.process import Gateway, Launch
from tests.gateway.recording import LOG, read

Points = dict[tuple[tuple[str, str], ...], Any]


class Receiver(MetricsServiceServicer):
    """Keeps what it gets, or refuses it."""

    def __init__(self, refusal: grpc.StatusCode | None = None) -> None:
        self.requests: SimpleQueue[ExportMetricsServiceRequest] = SimpleQueue()
        self.refused = 0
        self._refusal = refusal

    def Export(  # noqa: N802  # the name is the protocol's
        self, request: ExportMetricsServiceRequest, context: grpc.ServicerContext
    ) -> ExportMetricsServiceResponse:
        if self._refusal:
            self.refused += 1
            context.abort(self._refusal, "not today")
        self.requests.put(request)
        return ExportMetricsServiceResponse()

    def last(self) -> ExportMetricsServiceRequest:
        """The newest request, waiting for one if there is none."""
        request = self.requests.get(timeout=20)
        while not self.requests.empty():
            request = self.requests.get()
        return request


@contextmanager
def receiving(receiver: Receiver, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> Iterator[int]:
    """The port of a server that hands everything to `receiver`."""
    server = grpc.server(ThreadPoolExecutor(2))
    add_MetricsServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]  # generated code
    address = f"localhost:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own variables make gateways push five times a second, and give up after a second."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


async def record(bus: Bus) -> None:
    """Put the recorded log on the bus."""
    for number, payload in enumerate(read(LOG)):
        await bus.jetstream.publish("longshore.events.proxy.shop", payload, headers={"Nats-Msg-Id": str(number)})


def points(metric: Metric) -> Points:
    data = getattr(metric, metric.WhichOneof("data") or "")
    return {
        tuple(sorted((one.key, one.value.string_value) for one in point.attributes)): point
        for point in data.data_points
    }


def scraped(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def changes_by_itself(name: str) -> bool:
    """Counts of the gateway's own heartbeats and pushes differ from one moment to the next."""
    own = {"longshore.gateway.events", "longshore.gateway.state.age", "longshore.gateway.snapshot.age"}
    return name in {*own, "longshore.otlp.exports"}


async def test_a_receiver_gets_the_names_kinds_units_and_values_of_the_scrape(launch: Launch, bus: Bus) -> None:
    await record(bus)
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True)
        await gateway.until_ready()
        receiver.last()
        request, text = receiver.last(), (await gateway.get("/metrics")).text
        (resource,) = request.resource_metrics
        (scope,) = resource.scope_metrics
        metrics = {metric.name: metric for metric in scope.metrics}
        assert scope.scope.name == "longshore"
        assert set(metrics) == {instrument.name for instrument in INSTRUMENTS}
        for instrument in INSTRUMENTS:
            check(instrument, metrics[instrument.name], scraped(text))


def check(instrument: Instrument, metric: Metric, scrape: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> None:
    """The pushed metric is of the right kind, and equals the scraped one in every series."""
    assert (metric.unit, metric.description) == (instrument.unit, instrument.description)
    kind = metric.WhichOneof("data")
    assert kind == {"counter": "sum", "updowncounter": "sum"}.get(instrument.kind, instrument.kind)
    if kind == "sum":
        assert metric.sum.is_monotonic == (instrument.kind == "counter")
        assert metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    pushed = points(metric)
    assert pushed
    if instrument.kind == "histogram":
        for labels, point in pushed.items():
            check_histogram(instrument, labels, point, scrape)
    elif not changes_by_itself(instrument.name):
        assert {labels: number(point) for labels, point in pushed.items()} == scrape[instrument.prometheus]


def check_histogram(
    instrument: Instrument,
    labels: tuple[tuple[str, str], ...],
    point: Any,
    scrape: dict[str, dict[tuple[tuple[str, str], ...], float]],
) -> None:
    assert tuple(point.explicit_bounds) == instrument.buckets
    for name in (instrument.prometheus, *instrument.aliases):
        assert point.count == scrape[f"{name}_count"][labels] > 0
        assert point.sum == scrape[f"{name}_sum"][labels]
        total = 0
        for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):
            total += count
            assert total == bucket(scrape[f"{name}_bucket"], labels, bound)


def bucket(
    samples: dict[tuple[tuple[str, str], ...], float], labels: tuple[tuple[str, str], ...], bound: float
) -> float:
    (value,) = [
        value
        for key, value in samples.items()
        if float(dict(key)["le"]) == bound and set(labels) == {pair for pair in key if pair[0] != "le"}
    ]
    return value


def number(point: Any) -> float:
    value: float = getattr(point, point.WhichOneof("value"))
    return value


async def test_the_resource_says_who_pushes_and_target_info_says_the_same(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True)
        (resource,) = receiver.last().resource_metrics
        attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert attributes["service.name"] == "longshore"
        assert attributes["host.name"] == "web-1"
        assert attributes["deployment.environment.name"] == "test"
        assert {"service.version", "service.instance.id"} <= attributes.keys()
        target = scraped((await gateway.get("/metrics")).text)["target_info"]
        assert target == {tuple(sorted((key.replace(".", "_"), value) for key, value in attributes.items())): 1.0}


async def until_failing(gateway: Gateway, count: int) -> None:
    def failed_often(text: str) -> bool:
        exports = scraped(text).get("longshore_otlp_exports_total", {})
        return exports.get((("result", "failure"),), 0) >= count

    await gateway.until("/metrics", lambda got: got.status_code == 200 and failed_often(got.text))


async def test_a_receiver_that_refuses_costs_one_line_and_a_counter(launch: Launch) -> None:
    receiver = Receiver(grpc.StatusCode.UNIMPLEMENTED)
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True)
        await until_failing(gateway, 4)
        assert (await gateway.get("/healthz/ready")).status_code == 200
        assert gateway.stop() == 0
    lines = [line for line in gateway.log.read_text().splitlines() if "push" in line or "export" in line]
    assert len(lines) == 1
    assert "not today" in lines[0]
    assert receiver.refused >= 4


async def test_a_receiver_that_is_away_at_first_gets_everything_when_it_is_back(launch: Launch) -> None:
    port = free_port()
    gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, telemetry=True)
    await gateway.until_ready()
    await until_failing(gateway, 1)
    receiver = Receiver()
    with receiving(receiver, port=port):
        assert receiver.last().resource_metrics
        assert gateway.stop() == 0
    assert gateway.log.read_text().count("cannot push metrics") == 1
    assert gateway.log.read_text().count("works again") == 1


async def test_stopping_pushes_what_came_last(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True)
        await gateway.until_ready()
        assert receiver.requests.empty()
        assert gateway.stop() == 0
        assert receiver.last().resource_metrics


async def test_stopping_does_not_wait_for_a_receiver_that_is_away(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    gateway = launch(otlp_endpoint=f"localhost:{free_port()}", otlp_insecure=True)
    await gateway.until_ready()
    assert gateway.stop() == 0
    assert "retry" not in gateway.log.read_text()


async def test_it_speaks_tls_unless_told_otherwise(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    openssl(command)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate))
    receiver = Receiver()
    pair = (key.read_bytes(), certificate.read_bytes())
    with receiving(receiver, grpc.ssl_server_credentials([pair])) as port:
        launch(otlp_endpoint=f"localhost:{port}")
        assert receiver.last().resource_metrics
        plain = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True)
        await until_failing(plain, 1)


def openssl(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1000", 1.0), ("250.5", 0.2505), ("", 60.0), ("soon", 60.0), ("0", 60.0), ("-5", 60.0), ("inf", 60.0)],
)
def test_the_interval_is_the_one_of_the_sdk(monkeypatch: pytest.MonkeyPatch, value: str, seconds: float) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    assert export_interval() == seconds
