"""Pushing to a real OTLP/gRPC receiver: what it gets is what a scrape shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from schemas import events as e
from services.common.bus import Bus
from services.common.lifecycle import VERSION
from services.metrics_gateway.instrument import Instrument
from services.metrics_gateway.instruments import INSTRUMENTS
from services.metrics_gateway.push import export_interval
from tests.gateway.process import Gateway, Launch, publishing
from tests.gateway.receiver import (
    Labels,
    Receiver,
    Scrape,
    check_histogram,
    metrics,
    number,
    points,
    receiving,
    scraped,
    until,
)
from tests.gateway.recording import APP, HOST, LOG, PORT, folded, read

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
NAMES = {instrument.name: instrument for instrument in INSTRUMENTS}


async def record(bus: Bus) -> None:
    """Put the recorded log on the bus."""
    for index, payload in enumerate(read(LOG)):
        await bus.jetstream.publish("longshore.events.proxy.shop", payload, headers={"Nats-Msg-Id": str(index)})


def changes_by_itself(labels: Labels, name: str) -> bool:
    """What is of the gateway, its own process and events, differs from one moment to the next."""
    is_own = ("service", "gateway") in labels
    return is_own or NAMES[name].of_process or name in {"longshore.gateway.events", "longshore.gateway.state.age"}


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


class Totals:
    """What the deltas of all requests add up to."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, Labels], float] = {}
        self.counts: dict[tuple[str, Labels], list[int]] = {}
        self.ends: dict[tuple[str, Labels], int] = {}

    def add(self, receiver: Receiver) -> None:
        while not receiver.requests.empty():
            for name, metric in metrics(receiver.requests.get()).items():
                for labels, point in points(metric).items():
                    self._add(name, labels, metric, point)

    def _add(self, name: str, labels: Labels, metric: Metric, point: Any) -> None:
        key = (name, labels)
        if NAMES[name].kind == "histogram":
            assert metric.histogram.aggregation_temporality == DELTA
            known = self.counts.get(key, [0] * len(point.bucket_counts))
            self.counts[key] = [one + other for one, other in zip(known, point.bucket_counts, strict=True)]
        elif NAMES[name].kind == "counter":
            assert metric.sum.aggregation_temporality == DELTA
            assert number(point) >= 0
            self.sums[key] = self.sums.get(key, 0) + number(point)
        else:
            return
        assert point.start_time_unix_nano >= self.ends.get(key, 0)
        self.ends[key] = point.time_unix_nano

    def check(self, scrape: Scrape) -> None:
        """They equal what is scraped."""
        for (name, labels), total in self.sums.items():
            if not changes_by_itself(labels, name):
                assert total == scrape[NAMES[name].prometheus][labels], name
        for (name, labels), counts in self.counts.items():
            if not changes_by_itself(labels, name):
                assert sum(counts) == scrape[f"{NAMES[name].prometheus}_count"][labels], name


async def serve(bus: Bus, first: int, last: int) -> None:
    """These connections come and go, a batch each."""
    async with publishing(bus, "proxy", f"p-{first}") as proxy:
        for connection in range(first, last):
            now = time.time()
            proxy.record(e.ConnectionAccepted(now, connection, 8080), "shop")
            proxy.record(e.ConnectionEstablished(now, connection, 8080, "b", 0.003, 1), "shop")
            proxy.record(e.ConnectionClosed(now, connection, 8080, "b", 100, 1000, 0.1, "eof"), "shop")
            await asyncio.sleep(0.01)


async def until_counted(gateway: Gateway, connections: int) -> str:
    """The scrape that shows so many connections."""
    line = f'dewy_proxy_connections_total{{app="shop",host="web-1",proxy_port="8080"}} {connections}.0'
    return (await gateway.until("/metrics", lambda got: line in got.text)).text


async def test_deltas_add_up_to_what_is_scraped_over_failures_and_restarts(launch: Launch, bus: Bus) -> None:
    await record(bus)
    recorded = folded(list(read(LOG))).ports[HOST, APP, PORT].connections
    totals, receiver = Totals(), Receiver()
    with receiving(receiver) as port:
        gateway = launch(
            otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2, otlp_temporality="delta"
        )
        await serve(bus, 0, 30)
        await until_counted(gateway, recorded + 30)
        await until(lambda: receiver.calls > 2)
        receiver.mood = receiver.refuse
        await serve(bus, 30, 60)
        calls = receiver.calls
        await until(lambda: receiver.calls > calls + 1)
        receiver.mood = None
        await until_counted(gateway, recorded + 60)
        assert gateway.stop() == 0
        await serve(bus, 60, 90)
        gateway.start()
        await until_counted(gateway, recorded + 90)
        await serve(bus, 90, 120)
        text = await until_counted(gateway, recorded + 120)
        assert gateway.stop() == 0
        totals.add(receiver)
    totals.check(scraped(text))
    assert {"dewy.proxy.connections.total", "longshore.proxy.bytes"} <= {name for name, _ in totals.sums}
    assert {"dewy.proxy.connect.latency", "dewy.deployment.duration"} <= {name for name, _ in totals.counts}


@pytest.mark.parametrize(
    ("preference", "counters", "histograms"),
    [("cumulative", CUMULATIVE, CUMULATIVE), ("DELTA", DELTA, DELTA), ("lowmemory", CUMULATIVE, DELTA)],
)
async def test_the_standard_variable_for_temporality_is_understood(
    launch: Launch, bus: Bus, monkeypatch: pytest.MonkeyPatch, preference: str, counters: int, histograms: int
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    await record(bus)
    receiver = Receiver()
    with receiving(receiver) as port:
        launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        pushed = metrics(await asyncio.to_thread(receiver.last))
    assert pushed["dewy.proxy.connections.total"].sum.aggregation_temporality == counters
    assert pushed["dewy.proxy.connect.latency"].histogram.aggregation_temporality == histograms
    assert pushed["dewy.proxy.connections.active"].sum.aggregation_temporality == CUMULATIVE


async def test_the_resource_says_who_pushes_and_target_info_says_the_same(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "delivery")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,odd=\udcff")
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.2)
        (resource,) = (await asyncio.to_thread(receiver.last)).resource_metrics
        attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert attributes["service.name"] == "delivery"
        assert attributes["service.version"] == VERSION
        assert attributes["host.name"] == "web-1"
        assert attributes["deployment.environment.name"] == "test"
        assert attributes["odd"] == "\ufffd"
        assert attributes["service.instance.id"]
        target = scraped((await gateway.get("/metrics")).text)["target_info"]
        assert target == {tuple(sorted((key.replace(".", "_"), value) for key, value in attributes.items())): 1.0}


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
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer, counted=False), return_exceptions=True)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool = True) -> None:
        try:
            while data := await reader.read(1 << 16):
                wire.sent += len(data) * counted
                writer.write(data)
        finally:
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    async with server:
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
