"""The metrics of proxies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from services.metrics_gateway.instruments.instrument import (
    PER_PORT,
    Instrument,
    Labels,
    Measurement,
    Section,
    Value,
    backends,
    is_served,
    label,
    open_connections,
    per_port,
    per_port_and,
    port_labels,
)
from services.metrics_gateway.state.histogram import CONNECT_LATENCY, CONNECTION_DURATION, HOLD_DURATION
from services.metrics_gateway.state.state import PortKey


def _open_connections(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for key, count in open_connections(measurement.state).items():
        if count or is_served(measurement.state, key):
            yield port_labels(key), count


def _backends(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    """Yield the backends of each port; of one whose opening has left the log, no zero: others may serve it."""
    for key, found in backends(measurement.state).items():
        if is_served(measurement.state, key) and (found or measurement.state.ports[key].owner):
            yield port_labels(key), len(found)


def _open_by_backend(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    counts: dict[PortKey, Counter[str]] = {
        key: Counter(dict.fromkeys(port.backends, 0)) for key, port in measurement.state.ports.items()
    }
    for instance in measurement.state.running():
        for (app, port), listener in instance.listeners.items():
            counts[instance.host, app, port].update(listener.carried)
    for key, found in counts.items():
        served = is_served(measurement.state, key)
        for name, count in found.items():
            if served or count:
                yield (label(name), *port_labels(key)), count


def _dial_failures(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
    for key, port in measurement.state.ports.items():
        for name, backend in port.backends.items():
            for reason, count in backend.failures.items():
                yield (label(name), reason, *port_labels(key)), count


PROXY = Section(
    "Proxy",
    (
        Instrument(
            "dewy.proxy.connections.total",
            "dewy_proxy_connections_total",
            "counter",
            "{connection}",
            "Client connections accepted, counted before a backend is picked",
            PER_PORT,
            per_port(lambda port: port.connections),
        ),
        Instrument(
            "dewy.proxy.connections.active",
            "dewy_proxy_connections_active",
            "updowncounter",
            "{connection}",
            "Client connections accepted and not yet closed",
            PER_PORT,
            _open_connections,
        ),
        Instrument(
            "dewy.proxy.connection.duration",
            "dewy_proxy_connection_duration_seconds",
            "histogram",
            "s",
            "Time from accept to close of a client connection, failed ones included",
            PER_PORT,
            per_port(lambda port: port.duration),
            buckets=CONNECTION_DURATION,
        ),
        Instrument(
            "dewy.proxy.connect.latency",
            "dewy_proxy_connect_latency_seconds",
            "histogram",
            "s",
            "Time to establish the connection to a backend, failed attempts included",
            PER_PORT,
            per_port(lambda port: port.latency),
            buckets=CONNECT_LATENCY,
            aliases=("dewy_proxy_connect_latency",),
        ),
        Instrument(
            "dewy.proxy.bytes.transferred",
            "dewy_proxy_bytes_transferred_total",
            "counter",
            "By",
            "Bytes through the proxy in both directions, including open connections",
            PER_PORT,
            per_port(lambda port: port.bytes),
        ),
        Instrument(
            "dewy.proxy.errors.total",
            "dewy_proxy_errors_total",
            "counter",
            "{error}",
            "Client connections that found no backend, or none that could be reached",
            PER_PORT,
            per_port(lambda port: port.errors),
        ),
        Instrument(
            "dewy.proxy.backends",
            "dewy_proxy_backends",
            "updowncounter",
            "{backend}",
            "Backends that take new connections now",
            PER_PORT,
            _backends,
        ),
        Instrument(
            "longshore.proxy.bytes",
            "longshore_proxy_bytes_total",
            "counter",
            "By",
            "Bytes through the proxy by direction (in: from the client, out: to it), including open connections",
            ("direction", *PER_PORT),
            per_port_and(lambda port: {"in": port.bytes_in, "out": port.bytes_out}),
        ),
        Instrument(
            "longshore.proxy.errors",
            "longshore_proxy_errors_total",
            "counter",
            "{error}",
            "Client connections that ended without a backend: there was none (no_backend), or none could be reached "
            "(dial_failed)",
            ("reason", *PER_PORT),
            per_port_and(lambda port: port.refused),
        ),
        Instrument(
            "longshore.proxy.connections.closed",
            "longshore_proxy_connections_closed_total",
            "counter",
            "{connection}",
            "Client connections that ended otherwise, by reason: eof, client_reset, backend_reset, client_gone (before "
            "a backend answered), idle, drained, shutdown",
            ("reason", *PER_PORT),
            per_port_and(lambda port: port.closed),
        ),
        Instrument(
            "longshore.proxy.connections.cut",
            "longshore_proxy_connections_cut_total",
            "counter",
            "{connection}",
            "Client connections that were still open at the end of their backend's drain time, and were closed",
            PER_PORT,
            per_port(lambda port: port.cut),
        ),
        Instrument(
            "longshore.proxy.hold.duration",
            "longshore_proxy_hold_duration_seconds",
            "histogram",
            "s",
            "Time that client connections were held because no backend was ready, including those that found none",
            PER_PORT,
            per_port(lambda port: port.hold),
            buckets=HOLD_DURATION,
        ),
    ),
)

BACKENDS = Section(
    "Backends",
    (
        Instrument(
            "longshore.proxy.backend.connections",
            "longshore_proxy_backend_connections_total",
            "counter",
            "{connection}",
            "Client connections that the backend answered",
            ("backend", *PER_PORT),
            per_port_and(lambda port: {name: one.connections for name, one in port.backends.items()}),
        ),
        Instrument(
            "longshore.proxy.backend.connections.active",
            "longshore_proxy_backend_connections_active",
            "updowncounter",
            "{connection}",
            "Client connections that the backend has now",
            ("backend", *PER_PORT),
            _open_by_backend,
        ),
        Instrument(
            "longshore.proxy.backend.connect.latency",
            "longshore_proxy_backend_connect_latency_seconds",
            "histogram",
            "s",
            "Time to establish the connection to the backend, failed attempts included",
            ("backend", *PER_PORT),
            per_port_and(lambda port: {name: one.latency for name, one in port.backends.items()}),
            buckets=CONNECT_LATENCY,
        ),
        Instrument(
            "longshore.proxy.backend.dial.failures",
            "longshore_proxy_backend_dial_failures_total",
            "counter",
            "{attempt}",
            "Attempts to reach the backend that failed, by reason: refused, timeout, reset, unreachable",
            ("backend", "reason", *PER_PORT),
            _dial_failures,
        ),
        Instrument(
            "longshore.proxy.ejections",
            "longshore_proxy_ejections_total",
            "counter",
            "{ejection}",
            "Times that the backend was skipped for a while because it could not be reached",
            ("backend", *PER_PORT),
            per_port_and(lambda port: {name: one.ejections for name, one in port.backends.items()}),
        ),
    ),
)
