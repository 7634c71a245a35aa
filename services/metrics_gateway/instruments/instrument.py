"""What an instrument is, and the ways to read one from the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.state.instance import MISSED
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import AppKey, PortKey, State

Kind = Literal["counter", "updowncounter", "gauge", "histogram"]
Role = Literal["snapshots", "metrics", "traces"]
"""What one gateway of several on a bus does alone: save the state, push metrics, push traces."""

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = int | float | Histogram


PER_PORT = ("proxy_port", "app", "host")
PER_APP = ("app", "host")

LONGEST_LABEL = 200
"""A longer label value is cut, and told from others by a digest: stores refuse series for less."""


class Measurement(msgspec.Struct, frozen=True):
    """What is measured: the folded state, and what only this process knows at `now`. Times are unix seconds.

    `pending`: messages of the log that are not folded yet; `fold_seconds`: time spent on those that are. `duties`:
    whether this gateway has each of its possible roles now. `process` and `host`: which gateway this is.
    """

    state: State
    now: float
    version: str
    bus_connected: bool
    otlp_exports: dict[str, int]
    saved: float = 0.0
    pending: int = 0
    fold_seconds: float = 0.0
    otlp_spans: dict[str, int] = {}
    roles: dict[Role, bool] = {}
    process: str = ""
    host: str = ""


Read: TypeAlias = Callable[[Measurement], Iterator[tuple[Labels, Value]]]


class Instrument(msgspec.Struct, frozen=True):
    """A metric: its OpenTelemetry name, its name on /metrics and further ones, and how it reads the state.

    `of_process`: it tells of the running gateway, not of what is in the log, and is left out of a replay.
    """

    name: str
    prometheus: str
    kind: Kind
    unit: str
    description: str
    labels: Labels
    read: Read
    buckets: tuple[float, ...] = ()
    aliases: tuple[str, ...] = ()
    of_process: bool = False


class Section(msgspec.Struct, frozen=True):
    """Instruments that belong together in the documents."""

    title: str
    instruments: tuple[Instrument, ...]


def label(value: str) -> str:
    """The value, cut if it is very long."""
    if len(value) <= LONGEST_LABEL:
        return value
    return f"{value[:LONGEST_LABEL]}…{sha256(value.encode()).hexdigest()[:16]}"


def port_labels(key: PortKey) -> Labels:
    """The values of PER_PORT."""
    host, app, port = key
    return str(port), label(app), label(host)


def app_labels(key: AppKey) -> Labels:
    """The values of PER_APP."""
    host, app = key
    return label(app), label(host)


def per_port(value: Callable[[Port], Value]) -> Read:
    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.ports.items():
            yield port_labels(key), value(totals)

    return read


def per_port_and(values: Callable[[Port], Mapping[str, Value]]) -> Read:
    """One more label, before those of the port."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.ports.items():
            labels = port_labels(key)
            for name, value in values(totals).items():
                yield (label(name), *labels), value

    return read


def per_known_app(value: Callable[[App], Value]) -> Read:
    """What is true now: nothing of an app that is gone, or of which nobody can say how it is."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, app in measurement.state.apps.items():
            if app.is_known:
                yield app_labels(key), value(app)

    return read


def per_app(value: Callable[[App], Value]) -> Read:
    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.apps.items():
            yield app_labels(key), value(totals)

    return read


def per_app_and(values: Callable[[App], Mapping[str, Value]]) -> Read:
    """One more label, before those of the app."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.apps.items():
            labels = app_labels(key)
            for name, value in values(totals).items():
                yield (label(name), *labels), value

    return read


def single(value: Callable[[Measurement], Value]) -> Read:
    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        yield (), value(measurement)

    return read


def is_served(state: State, key: PortKey) -> bool:
    """Whether a port is to be served now, as far as anybody can say: not closed, nor of a host that was not heard."""
    host, name, _ = key
    app, port = state.apps.get((host, name)), state.ports[key]
    owner = state.instances.get(port.owner)
    is_lost = bool(port.owner) and (owner is None or owner.ended == MISSED)
    return not (is_lost or port.is_closed or (app and app.removed))


def open_connections(state: State) -> Counter[PortKey]:
    """How many connections are open on each port, over all instances that projection."""
    counts: Counter[PortKey] = Counter(dict.fromkeys(state.ports, 0))
    for instance in state.running():
        for (app, port), listener in instance.listeners.items():
            counts[instance.host, app, port] += len(listener.open)
    return counts


def backends(state: State) -> dict[PortKey, dict[str, str]]:
    """The backends of each port that take new connections of at least one instance, with their addresses."""
    found: dict[PortKey, dict[str, str]] = {key: {} for key in state.ports}
    for instance in state.running():
        for (app, port), listener in instance.listeners.items():
            found[instance.host, app, port].update(listener.backends)
    return found
