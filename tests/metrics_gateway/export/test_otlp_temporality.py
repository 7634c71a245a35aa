"""Pushes that tell what was added add up to what is scraped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from services.common.bus.connection import Bus
from tests.metrics_gateway.recording import APP, HOST, LOG, PORT, folded, read
from tests.metrics_gateway.traffic import NAMES, changes_by_itself, record, serve, until_counted
from tests.support.gateway_process import Launch
from tests.support.metrics_receiver import Labels, Receiver, Scrape, metrics, number, points, receiving, scraped, until

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


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
        assert NAMES[name].of_process or point.start_time_unix_nano >= self.ends.get(key, 0)
        self.ends[key] = point.time_unix_nano

    def check(self, scrape: Scrape) -> None:
        """They equal what is scraped."""
        for (name, labels), total in self.sums.items():
            if not changes_by_itself(labels, name):
                assert total == scrape[NAMES[name].prometheus][labels], name
        for (name, labels), counts in self.counts.items():
            if not changes_by_itself(labels, name):
                assert sum(counts) == scrape[f"{NAMES[name].prometheus}_count"][labels], name


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
