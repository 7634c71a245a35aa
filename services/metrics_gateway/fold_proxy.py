"""The proxy's events, folded. The first handlers run for every connection: they spend no call that they can save."""

from __future__ import annotations

from bisect import bisect_left

from schemas import events as e
from services.metrics_gateway.place import Place


def accepted(place: Place, event: e.ConnectionAccepted) -> None:
    totals, listener = place.ports.get(event.port) or place.port(event.port)
    totals.connections += 1
    if not place.gapped or event.connection not in listener.closed:
        listener.open.setdefault(event.connection, 0)


def established(place: Place, event: e.ConnectionEstablished) -> None:
    histogram = (place.ports.get(event.port) or place.port(event.port))[0].latency
    latency = event.latency
    nanoseconds = int(latency * 1e9 + 0.5)
    histogram.counts[bisect_left(histogram.bounds, latency)] += 1
    histogram.nanoseconds += nanoseconds


def progressed(place: Place, event: e.ConnectionProgressed) -> None:
    totals, listener = place.ports.get(event.port) or place.port(event.port)
    transferred = event.bytes_in + event.bytes_out
    if place.gapped and event.connection in listener.closed:
        return
    known = listener.open.get(event.connection, 0)
    if transferred > known:
        totals.bytes += transferred - known
    listener.open[event.connection] = max(known, transferred)


def closed(place: Place, event: e.ConnectionClosed) -> None:
    totals, listener = place.ports.get(event.port) or place.port(event.port)
    transferred = event.bytes_in + event.bytes_out
    known = listener.open.pop(event.connection, 0)
    if transferred > known:
        totals.bytes += transferred - known
    if place.gapped:
        listener.closed[event.connection] = transferred
    histogram = totals.duration
    duration = event.duration
    nanoseconds = int(duration * 1e9 + 0.5)
    histogram.counts[bisect_left(histogram.bounds, duration)] += 1
    histogram.nanoseconds += nanoseconds


def refused(place: Place, event: e.ConnectionRefused) -> None:
    totals, listener = place.ports.get(event.port) or place.port(event.port)
    totals.errors += 1
    listener.open.pop(event.connection, None)
    if place.gapped:
        listener.closed[event.connection] = 0
    totals.duration.observe(event.duration)


def dial_failed(place: Place, event: e.DialFailed) -> None:
    totals, _ = place.ports.get(event.port) or place.port(event.port)
    totals.latency.observe(event.latency)


def listener_opened(place: Place, event: e.ListenerOpened) -> None:
    _, listener = place.port(event.port)
    if place.is_latest("listener", str(event.port)):
        listener.address = event.address


def listener_closed(place: Place, event: e.ListenerClosed) -> None:
    _, listener = place.port(event.port)
    if place.is_latest("listener", str(event.port)):
        listener.address = ""


def backend_joined(place: Place, event: e.BackendJoined) -> None:
    _, listener = place.port(event.port)
    if place.is_latest("backend", str(event.port), event.backend):
        listener.backends[event.backend] = event.address


def backend_left(place: Place, event: e.BackendLeft | e.BackendEjected) -> None:
    _, listener = place.port(event.port)
    if place.is_latest("backend", str(event.port), event.backend):
        listener.backends.pop(event.backend, None)
