"""The fold by itself, in this process: no bus, no socket."""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.state.histogram import CONNECT_LATENCY, CONNECTION_DURATION
from services.metrics_gateway.state.state import State

CONNECTIONS_A_BATCH = 170
EVENTS_A_BATCH = CONNECTIONS_A_BATCH * 3
ROUNDS = 3
LABELS = {"proxy_port": "8080", "app": "shop", "host": "web-1"}


def batch(instance: str, sequence: int, port: int = 8080) -> bytes:
    """Accepted, established and closed connections, as a proxy worker sends them."""
    events: list[e.AnyEvent] = []
    for n in range(CONNECTIONS_A_BATCH):
        number = sequence * CONNECTIONS_A_BATCH + n
        events.append(e.ConnectionAccepted(1.0, number, port))
        events.append(e.ConnectionEstablished(1.0, number, port, backend="shop-1-abcd", latency=0.0004, attempts=1))
        events.append(
            e.ConnectionClosed(
                1.0, number, port, backend="shop-1-abcd", bytes_in=120, bytes_out=4500, duration=0.0123, reason="eof"
            )
        )
    return codec.encode(Batch("proxy", "web-1", "shop", instance, sequence, events))


def mix(batches: int) -> list[bytes]:
    return [batch("worker", sequence) for sequence in range(1, batches + 1)]


def decode_only(payloads: list[bytes]) -> None:
    for payload in payloads:
        codec.decode(payload)


def fold(payloads: list[bytes]) -> None:
    state = State()
    for position, payload in enumerate(payloads, 1):
        apply(state, position, 1.0, payload)


def through_the_sdk(payloads: list[bytes]) -> None:
    """The same six measurements a connection, each through a synchronous instrument of OpenTelemetry's SDK."""
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("benchmark")
    connections, active = meter.create_counter("connections"), meter.create_up_down_counter("active")
    transferred = meter.create_counter("bytes")
    latency, duration = meter.create_histogram("latency"), meter.create_histogram("duration")
    for payload in payloads:
        for event in codec.decode(payload).batch.events:
            if isinstance(event, e.ConnectionAccepted):
                connections.add(1, LABELS)
                active.add(1, LABELS)
            elif isinstance(event, e.ConnectionEstablished):
                latency.record(event.latency, LABELS)
            elif isinstance(event, e.ConnectionClosed):
                active.add(-1, LABELS)
                transferred.add(event.bytes_in + event.bytes_out, LABELS)
                duration.record(event.duration, LABELS)


def through_the_client(payloads: list[bytes]) -> None:
    """The same through the metrics of prometheus_client."""
    registry, names = CollectorRegistry(), tuple(LABELS)
    connections, active = Counter("connections", "", names, registry=registry), Gauge("a", "", names, registry=registry)
    transferred = Counter("bytes", "", names, registry=registry)
    latency = Histogram("latency", "", names, registry=registry, buckets=CONNECT_LATENCY)
    duration = Histogram("duration", "", names, registry=registry, buckets=CONNECTION_DURATION)
    for payload in payloads:
        for event in codec.decode(payload).batch.events:
            if isinstance(event, e.ConnectionAccepted):
                connections.labels(**LABELS).inc()
                active.labels(**LABELS).inc()
            elif isinstance(event, e.ConnectionEstablished):
                latency.labels(**LABELS).observe(event.latency)
            elif isinstance(event, e.ConnectionClosed):
                active.labels(**LABELS).dec()
                transferred.labels(**LABELS).inc(event.bytes_in + event.bytes_out)
                duration.labels(**LABELS).observe(event.duration)


def rate(work: Callable[[list[bytes]], None], payloads: list[bytes]) -> float:
    """Events a second, the best of a few rounds."""
    return len(payloads) * EVENTS_A_BATCH / min(seconds(lambda: work(payloads)) for _ in range(ROUNDS))


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def many_open(connections: int, held: int) -> State:
    """The state of a proxy port that has so many connections open, at 20 backends, and holds so many more."""
    opened: list[e.AnyEvent] = [
        e.ConnectionEstablished(1.0, number, 8080, backend=f"shop-{number % 20}", latency=0.0004, attempts=1)
        for number in range(connections)
    ]
    waiting: list[e.AnyEvent] = [
        e.ConnectionAccepted(1.0, number, 8080) for number in range(connections, connections + held)
    ]
    state = State()
    apply(state, 1, 1.0, codec.encode(Batch("proxy", "web-1", "shop", "worker", 1, opened + waiting)))
    return state


def many_ports(ports: int) -> State:
    """The state of a proxy that has served so many ports."""
    state = State()
    for number in range(1, ports + 1):
        apply(state, number, 1.0, batch("worker", number, port=number))
    return state
