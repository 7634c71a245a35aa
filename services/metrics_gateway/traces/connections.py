"""A sampled connection as a trace. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from schemas.events import ConnectionTraced
from services.metrics_gateway.state.histogram import Exemplar
from services.metrics_gateway.state.span import Attribute, Span, span_id

REFUSED = {
    "no_backend": "no backend was there within the hold time",
    "dial_failed": "no backend could be reached within the hold time",
}


def trace_id(instance: str, connection: int) -> str:
    """Return the trace of a connection, unique over all instances."""
    return sha256(f"{instance}\0{connection}".encode()).hexdigest()[:32]


def spans(host: str, app: str, instance: str, event: ConnectionTraced) -> list[Span]:
    """Return the connection, from accept to close, and its steps."""
    trace = trace_id(instance, event.connection)
    accepted = event.time - event.duration
    attributes: dict[str, Attribute] = {
        "host.name": host,
        "server.port": event.port,
        "longshore.app": app,
        "longshore.backend": event.backend,
        "longshore.attempts": event.attempts,
        "longshore.bytes.in": event.bytes_in,
        "longshore.bytes.out": event.bytes_out,
        "longshore.reason": event.reason,
    }
    root = Span(
        trace=trace,
        id=span_id(trace, "connection"),
        name=f"connection to {app}",
        kind="server",
        start=accepted,
        end=event.time,
        attributes=attributes,
        error=REFUSED.get(event.reason, ""),
    )
    return [root, *_steps(root, event)]


def exemplars(instance: str, event: ConnectionTraced) -> tuple[Exemplar, Exemplar | None]:
    """Return exemplars of the connection's duration and of the latency of its dial, None without a backend."""
    trace = trace_id(instance, event.connection)
    duration = Exemplar(trace, span_id(trace, "connection"), event.duration, event.time)
    if not event.backend:
        return duration, None
    return duration, Exemplar(trace, span_id(trace, "dial"), event.latency, event.time)


def _steps(root: Span, event: ConnectionTraced) -> Iterator[Span]:
    if not event.backend:
        if event.held > 0:
            yield _step(root, "hold", event.duration - event.held, event.duration, {})
        return
    dialed = event.established - event.latency
    if event.held > 0:
        yield _step(root, "hold", max(0.0, dialed - event.held), dialed, {})
    yield _step(root, "dial", dialed, event.established, {"longshore.backend": event.backend})
    if event.first_byte >= 0:
        yield _step(root, "first byte", event.established, event.first_byte, {})
        yield _step(root, "transfer", event.first_byte, event.duration, {"longshore.bytes.out": event.bytes_out})


def _step(root: Span, name: str, start: float, end: float, attributes: dict[str, Attribute]) -> Span:
    """Return a part of the connection; its times are seconds since the accept."""
    return Span(
        trace=root.trace,
        id=span_id(root.trace, name),
        parent=root.id,
        name=name,
        kind="client" if name == "dial" else "internal",
        start=root.start + start,
        end=root.start + max(start, end),
        attributes=attributes,
    )
