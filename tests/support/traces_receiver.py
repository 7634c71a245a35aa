"""A real OTLP/gRPC receiver of traces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # it comes without types
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_METHOD = "opentelemetry.proto.collector.trace.v1.TraceService"
DEADLINE = 60.0


class Received(msgspec.Struct, frozen=True):
    """A span as it came, its ids as text."""

    trace: str
    id: str
    parent: str
    name: str
    error: str
    start: int
    end: int
    attributes: dict[str, str]
    links: list[str]


class Traces:
    """Keeps every span that comes; while it `refuses`, or its `mood` is to "hang" or to "babble", none."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: dict[str, str] = {}
        self.resource: dict[str, str] = {}
        self.refuses = False
        self.mood = ""
        self.calls = 0
        self._lock = threading.Lock()
        self._recovered = threading.Event()

    def recover(self) -> None:
        self.mood = ""
        self._recovered.set()

    def export(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        self.headers = dict(context.invocation_metadata())
        if self.refuses:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not today")
        if self.mood == "hang":
            self._recovered.wait(60)
            context.abort(grpc.StatusCode.ABORTED, "too late")
        if self.mood == "babble":
            return b"\xff\xfe no message"
        request = ExportTraceServiceRequest.FromString(payload)
        for one in request.resource_spans:
            self.resource = {each.key: each.value.string_value for each in one.resource.attributes}
        spans = [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]
        with self._lock:
            self.spans += map(_received, spans)
        answer: bytes = ExportTraceServiceResponse().SerializeToString()
        return answer

    def named(self, name: str) -> list[Received]:
        return [span for span in list(self.spans) if span.name == name]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)


@contextmanager
def receiving(traces: Traces, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    """The port of a server that hands every span to `traces`."""
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(traces.export)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_METHOD, {"Export": handler})])
    address = "localhost:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def _received(span: Span) -> Received:
    attributes = {one.key: str(getattr(one.value, one.value.WhichOneof("value") or "")) for one in span.attributes}
    return Received(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.status.message,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes,
        [link.span_id.hex() for link in span.links],
    )
