"""Pushed series go on over restarts, takeovers and hosts of the gateway: what a real store makes of them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it comes without types
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from services.common.bus.connection import Bus
from tests.metrics_gateway.test_two_gateways import options, until_leading
from tests.metrics_gateway.traffic import NAMES, serve, until_counted
from tests.support.gateway_process import Launch
from tests.support.metrics_receiver import Receiver, metrics, number, points, receiving, until
from tests.support.stores import Store, victoria_metrics

TOTAL = "dewy_proxy_connections_total"


class Forwarder(Receiver):
    """Writes what is pushed into a store, with every attribute of resource and scope as a label, as stores do."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._url = f"{store.url}/api/v1/import/prometheus"

    def export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        text = "\n".join(lines(ExportMetricsServiceRequest.FromString(payload)))
        with urllib.request.urlopen(self._url, f"{text}\n".encode(), timeout=10):
            return super().export(payload, context)


def lines(request: ExportMetricsServiceRequest) -> Iterator[str]:
    """The numbers of a request, each a line of Prometheus' text format with its time."""
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    shared = {one.key.replace(".", "_"): one.value.string_value for one in resource.resource.attributes}
    shared["otel_scope_version"] = scope.scope.version
    for name, metric in metrics(request).items():
        if metric.WhichOneof("data") not in ("sum", "gauge"):
            continue
        for attributes, point in points(metric).items():
            labels = ",".join(f"{key}={json.dumps(text)}" for key, text in {**shared, **dict(attributes)}.items())
            yield f"{NAMES[name].prometheus}{{{labels}}} {number(point)} {point.time_unix_nano // 10**6}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = victoria_metrics(tmp_path)
    yield store
    store.stop()


def value(store: Store, expression: str) -> float:
    answer = store.query(expression)
    return float(answer[0]["value"][1]) if answer else 0.0


async def until_stored(store: Store, connections: int) -> None:
    """Wait until the newest value is the store's; what else it then has is compared by the test."""
    await until(lambda: value(store, f"max({TOTAL})") == connections)


async def test_a_store_has_each_connection_once_over_a_restart_a_crash_and_a_takeover_on_another_host(
    launch: Launch, bus: Bus, store: Store, tmp_path: Path
) -> None:
    receiver = Forwarder(store)
    with receiving(receiver) as port:
        first = launch(**options(port))
        await serve(bus, 0, 10)
        await until_stored(store, 10)
        assert first.stop() == 0
        await serve(bus, 10, 20)
        first.start()
        await until_stored(store, 20)
        first.kill()
        await serve(bus, 20, 30)
        first.start()
        await until_stored(store, 30)
        second = launch(**options(port, host="web-2", state_dir=str(tmp_path / "other")))
        await second.until_ready()
        assert first.stop() == 0
        await until_leading(second)
        await serve(bus, 30, 40)
        await until_counted(second, 40)
        await until_stored(store, 40)
    assert value(store, f"sum({TOTAL})") == 40
    assert value(store, f"sum(increase_pure({TOTAL}[1h]))") == 40
    assert value(store, f"count({TOTAL})") == 1
    requests = drained(receiver)
    assert len({request.resource_metrics[0].resource.SerializeToString() for request in requests}) == 1
    starts = {
        point.start_time_unix_nano
        for request in requests
        for point in points(metrics(request)["dewy.proxy.connections.total"]).values()
    }
    assert len(starts) == 1
    await until(lambda: pushers(store) == {"web-1": 3, "web-2": 1})


def drained(receiver: Receiver) -> list[ExportMetricsServiceRequest]:
    return [receiver.requests.get() for _ in range(receiver.requests.qsize())]


def pushers(store: Store) -> dict[str, int]:
    """How many processes have pushed from each host."""
    answer = store.query("count(last_over_time(longshore_gateway_info[1h])) by (host)")
    return {one["metric"]["host"]: int(one["value"][1]) for one in answer}
