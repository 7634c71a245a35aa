"""The proxy's events, folded. The first handlers run for every connection, so they avoid calls."""

from __future__ import annotations

from bisect import bisect_left

from schemas import events as e
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.state.port import NEW, Port, count


def accepted(context: BatchContext, event: e.ConnectionAccepted) -> None:
    """Count a connection, and open it."""
    totals, listener = context.ports.get(event.port) or context.port(event.port)
    totals.connections += 1
    if not context.gapped or event.connection not in listener.closed:
        listener.open.setdefault(event.connection, NEW)


def established(context: BatchContext, event: e.ConnectionEstablished) -> None:
    """Count the connection at its backend, and observe how long the dial took."""
    totals, listener = context.ports.get(event.port) or context.port(event.port)
    latency, name = event.latency, event.backend
    if latency < 0.0:
        latency = 0.0
    nanoseconds = int(latency * 1e9 + 0.5)
    if event.held:
        totals.hold.observe(event.held)
    backend = totals.backends.get(name) or context.backend(event.port, name)
    backend.seen = context.state.clock
    backend.connections += 1
    for histogram in (totals.latency, backend.latency):
        histogram.counts[bisect_left(histogram.bounds, latency)] += 1
        histogram.nanoseconds += nanoseconds
    if not context.gapped or event.connection not in listener.closed:
        known = listener.open.get(event.connection, NEW)
        listener.open[event.connection] = (known[0], known[1], name)
        if known[2] != name:
            if name:
                listener.carry(name)
            if known[2]:
                listener.release(known[2])


def progressed(context: BatchContext, event: e.ConnectionProgressed) -> None:
    """Add the bytes of an open connection since its last event."""
    totals, listener = context.ports.get(event.port) or context.port(event.port)
    if context.gapped and event.connection in listener.closed:
        return
    known_in, known_out, backend = listener.open.get(event.connection, NEW)
    bytes_in, bytes_out = max(known_in, event.bytes_in), max(known_out, event.bytes_out)
    totals.bytes_in += bytes_in - known_in
    totals.bytes_out += bytes_out - known_out
    listener.open[event.connection] = (bytes_in, bytes_out, backend)


def closed(context: BatchContext, event: e.ConnectionClosed) -> None:
    """Close a connection: add its last bytes, and count the reason."""
    totals, listener = context.ports.get(event.port) or context.port(event.port)
    known_in, known_out, backend = listener.open.pop(event.connection, NEW)
    if backend:
        listener.release(backend)
    if event.bytes_in > known_in:
        totals.bytes_in += event.bytes_in - known_in
    if event.bytes_out > known_out:
        totals.bytes_out += event.bytes_out - known_out
    if context.gapped:
        listener.closed.add(event.connection)
    reasons, reason = totals.closed, event.reason
    if reason in reasons:
        reasons[reason] += 1
    else:
        count(reasons, reason)
    histogram = totals.duration
    duration = event.duration
    if duration < 0.0:
        duration = 0.0
    nanoseconds = int(duration * 1e9 + 0.5)
    histogram.counts[bisect_left(histogram.bounds, duration)] += 1
    histogram.nanoseconds += nanoseconds


def refused(context: BatchContext, event: e.ConnectionRefused) -> None:
    """Close a connection that got no backend."""
    totals, listener = context.ports.get(event.port) or context.port(event.port)
    count(totals.refused, event.reason)
    _, _, backend = listener.open.pop(event.connection, NEW)
    if backend:
        listener.release(backend)
    if context.gapped:
        listener.closed.add(event.connection)
    totals.duration.observe(event.duration)
    totals.hold.observe(event.duration)


def dial_failed(context: BatchContext, event: e.DialFailed) -> None:
    """Count a failed attempt to reach a backend."""
    totals, _ = context.ports.get(event.port) or context.port(event.port)
    totals.latency.observe(event.latency)
    backend = context.backend(event.port, event.backend)
    backend.latency.observe(event.latency)
    count(backend.failures, event.reason)


def listener_opened(context: BatchContext, event: e.ListenerOpened) -> None:
    """Open a port of the instance."""
    totals, listener = context.port(event.port)
    if context.is_latest("listener", str(event.port)):
        listener.address = event.address
        _set_owner(context, totals, is_closed=False)


def listener_closed(context: BatchContext, event: e.ListenerClosed) -> None:
    """Close a port of the instance."""
    totals, listener = context.port(event.port)
    if context.is_latest("listener", str(event.port)):
        listener.address = ""
        _set_owner(context, totals, is_closed=True)


def _set_owner(context: BatchContext, totals: Port, is_closed: bool) -> None:
    """Make the instance the owner of a port, unless a newer one is. The owner says whether the port is open."""
    owner = context.state.instances.get(totals.owner)
    if owner is None or owner.ordinal <= context.instance.ordinal:
        totals.owner, totals.is_closed = context.instance.id, is_closed


def backend_joined(context: BatchContext, event: e.BackendJoined) -> None:
    """Add a backend that takes new connections."""
    _, listener = context.port(event.port)
    context.backend(event.port, event.backend)
    if context.is_latest("backend", str(event.port), event.backend):
        listener.backends[event.backend] = event.address


def backend_left(context: BatchContext, event: e.BackendLeft | e.BackendEjected) -> None:
    """Remove a backend that takes no new connections any more."""
    _, listener = context.port(event.port)
    context.backend(event.port, event.backend)
    if context.is_latest("backend", str(event.port), event.backend):
        listener.backends.pop(event.backend, None)


def backend_ejected(context: BatchContext, event: e.BackendEjected) -> None:
    """Remove a backend that cannot be reached, and count that."""
    backend_left(context, event)
    context.backend(event.port, event.backend).ejections += 1


def backend_drained(context: BatchContext, event: e.BackendDrained) -> None:
    """Count the connections that were closed at the end of a drain."""
    totals, _ = context.port(event.port)
    totals.cut += event.cut
    context.backend(event.port, event.backend)
