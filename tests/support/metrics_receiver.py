"""A real OTLP/gRPC receiver of metrics, of several moods, and what is in its requests."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeAlias

import grpc  # type: ignore[import-untyped]  # it comes without types
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client.parser import text_string_to_metric_families

_METHOD = "opentelemetry.proto.collector.metrics.v1.MetricsService"

Labels: TypeAlias = tuple[tuple[str, str], ...]
Points: TypeAlias = dict[Labels, Any]
Scrape: TypeAlias = dict[str, dict[Labels, float]]
Mood: TypeAlias = Callable[[grpc.ServicerContext], bytes]


class Receiver:
    """Keeps requests with their headers, and answers as `mood` does: with bytes, or not at all."""

    def __init__(self, mood: Mood | None = None) -> None:
        self.requests: SimpleQueue[ExportMetricsServiceRequest] = SimpleQueue()
        self.headers: dict[str, str] = {}
        self.calls = 0
        self.released = threading.Event()
        self.mood = mood

    def export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        self.headers = dict(context.invocation_metadata())
        if self.mood:
            return self.mood(context)
        self.requests.put(ExportMetricsServiceRequest.FromString(payload))
        answer: bytes = ExportMetricsServiceResponse().SerializeToString()
        return answer

    def last(self) -> ExportMetricsServiceRequest:
        """The newest request, waiting for one if there is none."""
        request = self.requests.get(timeout=30)
        while not self.requests.empty():
            request = self.requests.get()
        return request

    def refuse(self, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not today")
        raise AssertionError

    def hang(self, _: grpc.ServicerContext) -> bytes:
        self.released.wait(60)
        return b""

    def babble(self, _: grpc.ServicerContext) -> bytes:
        return b"\xff\xfe no message"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited 30 s in vain")


@contextmanager
def receiving(receiver: Receiver, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> Iterator[int]:
    """The port of a server that hands everything to `receiver`."""
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(receiver.export)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_METHOD, {"Export": handler})])
    address = f"localhost:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        receiver.released.set()
        server.stop(0).wait()


def metrics(request: ExportMetricsServiceRequest) -> dict[str, Metric]:
    """The metrics of a request, which is of one resource and scope."""
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == "longshore"
    return {metric.name: metric for metric in scope.metrics}


def points(metric: Metric) -> Points:
    kind = metric.WhichOneof("data")  # none where there is no point
    return {
        tuple(sorted((one.key, one.value.string_value) for one in point.attributes)): point
        for point in (getattr(metric, kind).data_points if kind else [])
    }


def number(point: Any) -> float:
    value: float = getattr(point, point.WhichOneof("value"))
    return value


def scraped(text: str) -> Scrape:
    found: Scrape = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def bucket(samples: dict[Labels, float], labels: Labels, bound: float) -> float:
    (value,) = [
        value
        for key, value in samples.items()
        if float(dict(key)["le"]) == bound and set(labels) == {pair for pair in key if pair[0] != "le"}
    ]
    return value


def check_histogram(name: str, labels: Labels, point: Any, scrape: Scrape) -> None:
    """A pushed histogram equals the scraped one."""
    assert point.count == scrape[f"{name}_count"][labels]
    assert point.sum == scrape[f"{name}_sum"][labels]
    total = 0
    for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):
        total += count
        assert total == bucket(scrape[f"{name}_bucket"], labels, bound)
