"""Pushing to a real OTLP/gRPC receiver: what it gets is what a scrape shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from schemas import events as e
from services.common.bus.connection import Bus
from services.common.version import VERSION
from services.metrics_gateway.export.metrics_pusher import export_interval
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Instrument
from tests.metrics_gateway.traffic import changes_by_itself, record, serve, until_counted
from tests.support.gateway_process import Launch, publishing
from tests.support.metrics_receiver import (
    Receiver,
    Scrape,
    check_histogram,
    metrics,
    number,
    points,
    receiving,
    scraped,
)
from tests.support.streams import listening

NOT_RECORDED = {
    "longshore.replica.restarts",
    "longshore.replica.cpu",
    "longshore.replica.memory",
    "longshore.replica.memory.limit",
    "longshore.replica.network.received",
    "longshore.replica.network.sent",
}
"""What the recorded log, which is of an earlier version, has no series of."""
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


async def test_a_receiver_gets_the_names_kinds_units_and_values_of_the_scrape(launch: Launch, bus: Bus) -> None:
    await record(bus)
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        await gateway.until_ready()
        await asyncio.to_thread(receiver.last)
        request, text = await asyncio.to_thread(receiver.last), (await gateway.get("/metrics")).text
        pushed = metrics(request)
        assert set(pushed) == {instrument.name for instrument in INSTRUMENTS}
        for instrument in INSTRUMENTS:
            check(instrument, pushed[instrument.name], scraped(text))


def check(instrument: Instrument, metric: Metric, scrape: Scrape) -> None:
    """The pushed metric is of the right kind, and equals the scraped one in every series."""
    assert (metric.unit, metric.description) == (instrument.unit, instrument.description)
    kind = metric.WhichOneof("data")
    if instrument.name in NOT_RECORDED:
        assert (kind, bool(scrape.get(instrument.prometheus))) == (None, False)
        return
    assert kind == {"counter": "sum", "updowncounter": "sum"}.get(instrument.kind, instrument.kind)
    if kind == "sum":
        assert metric.sum.is_monotonic == (instrument.kind == "counter")
        assert metric.sum.aggregation_temporality == CUMULATIVE
    pushed = points(metric)
    assert pushed
    if kind == "histogram":
        assert metric.histogram.aggregation_temporality == CUMULATIVE
        for labels, point in pushed.items():
            assert tuple(point.explicit_bounds) == instrument.buckets
            for name in (instrument.prometheus, *instrument.aliases):
                if not changes_by_itself(labels, instrument.name):
                    check_histogram(name, labels, point, scrape)
        return
    values = {key: number(point) for key, point in pushed.items() if not changes_by_itself(key, instrument.name)}
    found = scrape[instrument.prometheus].items()
    assert values == {labels: value for labels, value in found if not changes_by_itself(labels, instrument.name)}


async def test_cumulative_values_count_from_the_beginning_of_the_log_whoever_tells_them(
    launch: Launch, bus: Bus
) -> None:
    async with publishing(bus, "proxy", "p") as proxy:
        proxy.record(e.ConnectionAccepted(time.time(), 1, 8080), "shop")
    starts = []
    for _ in range(2):
        receiver = Receiver()
        with receiving(receiver) as port:
            gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
            pushed = metrics(await asyncio.to_thread(receiver.last))
            gateway.stop()
        (point,) = points(pushed["dewy.proxy.connections.total"]).values()
        starts.append(point.start_time_unix_nano)
    assert starts[0] == starts[1] > time.time_ns() - 600 * 10**9


async def test_the_resource_says_what_is_counted_and_target_info_which_process_says_so(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "delivery")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,odd=\udcff")
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        (resource,) = (await asyncio.to_thread(receiver.last)).resource_metrics
        attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
        log = attributes.pop("service.instance.id")
        given = {"service.name": "delivery", "deployment.environment.name": "test", "odd": "\ufffd"}
        assert attributes == given
        scrape = scraped((await gateway.get("/metrics")).text)
        (target,) = map(dict, scrape["target_info"])
        assert given.items() <= {key.replace("_", "."): value for key, value in target.items()}.items()
        assert (target["service_version"], target["host_name"]) == (VERSION, "web-1")
        (process,) = map(dict, scrape["longshore_gateway_info"])
        assert process == {"process": target["service_instance_id"], "host": "web-1"}
        assert process["process"] != log


async def test_stopping_pushes_what_came_last(launch: Launch, bus: Bus) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=3600.0)
        await serve(bus, 0, 3)
        await until_counted(gateway, 3)
        assert receiver.requests.empty()
        assert gateway.stop() == 0
        (point,) = points(metrics(receiver.last())["dewy.proxy.connections.total"]).values()
        assert number(point) == 3


async def test_headers_reach_the_receiver(launch: Launch) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        launch(
            otlp_endpoint=f"localhost:{port}",
            otlp_insecure=True,
            otlp_interval=0.2,
            otlp_header=["Authorization=Bearer%20abc=", "x-scope=a b"],
        )
        assert await asyncio.to_thread(receiver.last)
    assert (receiver.headers["authorization"], receiver.headers["x-scope"]) == ("Bearer abc=", "a b")


@pytest.mark.parametrize(("compression", "variable"), [("gzip", ""), (None, "gzip"), ("none", "gzip"), (None, "")])
async def test_what_is_compressed_takes_less_on_the_wire(
    launch: Launch, bus: Bus, monkeypatch: pytest.MonkeyPatch, compression: str | None, variable: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", variable)
    await record(bus)
    receiver = Receiver()
    with receiving(receiver) as port:
        async with counting(port) as wire:
            gateway = launch(
                otlp_endpoint=f"127.0.0.1:{wire.port}",
                otlp_insecure=True,
                otlp_interval=3600.0,
                otlp_compression=compression,
            )
            await gateway.until_ready()
            await asyncio.to_thread(gateway.stop)
    payload = (await asyncio.to_thread(receiver.last)).ByteSize()
    is_compressed = (compression or variable) == "gzip"
    assert (wire.sent < payload / 2) == is_compressed


class Wire:
    """A way to a port on which bytes are counted."""

    port = 0
    sent = 0


@asynccontextmanager
async def counting(target: int) -> AsyncIterator[Wire]:
    wire = Wire()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("localhost", target)
        try:
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer, counted=False), return_exceptions=True)
        finally:
            back.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool = True) -> None:
        try:
            while data := await reader.read(1 << 16):
                wire.sent += len(data) * counted
                writer.write(data)
        finally:
            writer.close()

    async with listening(relay) as wire.port:
        yield wire


async def test_the_standard_variables_alone_are_enough(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://localhost:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
        launch(telemetry=False)
        assert await asyncio.to_thread(receiver.last)
    assert receiver.headers["x-tenant"] == "blue"


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none"), ("SIGNALS", "traces")]
)
async def test_what_is_switched_off_is_not_pushed(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(
            telemetry_signals=value if variable == "SIGNALS" else "",
            otlp_endpoint=f"localhost:{port}",
            otlp_insecure=True,
            otlp_interval=0.1,
        )
        await gateway.until_ready()
        assert (await gateway.get("/metrics")).status_code == (404 if variable == "SIGNALS" else 200)
        assert gateway.stop() == 0
    assert receiver.calls == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1000", 1.0), ("250.5", 0.2505), ("", 60.0), ("soon", 60.0), ("0", 60.0), ("-5", 60.0), ("inf", 60.0)],
)
def test_the_interval_is_the_one_of_the_sdk(monkeypatch: pytest.MonkeyPatch, value: str, seconds: float) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    assert export_interval() == seconds
