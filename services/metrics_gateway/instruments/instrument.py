"""The definition of an instrument, and ways to read one from the state."""

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
"""The tasks that only one gateway on a bus has: save snapshots, push metrics, push traces."""

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = int | float | Histogram


PER_PORT = ("proxy_port", "app", "host")
PER_APP = ("app", "host")

LONGEST_LABEL = 200
"""Characters of a label value; a longer one is cut and gets a digest. Stores refuse series for less."""


class Measurement(msgspec.Struct, frozen=True):
    """The input of all instruments: the folded state, and the facts about this process at `now`.

    Times are unix seconds. `pending`: messages of the log that are not folded yet; `fold_seconds`: the time spent on
    those that are. `roles`: whether this gateway has each of its possible roles now. `process` and `host` identify this
    gateway.
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
    """A metric: its OpenTelemetry name, its names on /metrics, and the function that reads it.

    `of_process`: the metric is about the running gateway, not about the log; a replay omits it.
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
    """Instruments under one heading of the documentation."""

    title: str
    instruments: tuple[Instrument, ...]


def label(value: str) -> str:
    """Return the value, cut if it is very long."""
    if len(value) <= LONGEST_LABEL:
        return value
    return f"{value[:LONGEST_LABEL]}…{sha256(value.encode()).hexdigest()[:16]}"


def port_labels(key: PortKey) -> Labels:
    """Return the values of PER_PORT."""
    host, app, port = key
    return str(port), label(app), label(host)


def app_labels(key: AppKey) -> Labels:
    """Return the values of PER_APP."""
    host, app = key
    return label(app), label(host)


def per_port(value: Callable[[Port], Value]) -> Read:
    """Read one value of each port."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.ports.items():
            yield port_labels(key), value(totals)

    return read


def per_port_and(values: Callable[[Port], Mapping[str, Value]]) -> Read:
    """Read several values of each port, with one more label before those of the port."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.ports.items():
            labels = port_labels(key)
            for name, value in values(totals).items():
                yield (label(name), *labels), value

    return read


def per_known_app(value: Callable[[App], Value | None]) -> Read:
    """Read one value of each app whose current state is known; None is a value that the log does not say."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, app in measurement.state.apps.items():
            if app.is_known and (known := value(app)) is not None:
                yield app_labels(key), known

    return read


def per_app(value: Callable[[App], Value]) -> Read:
    """Read one value of each app."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.apps.items():
            yield app_labels(key), value(totals)

    return read


def per_app_and(values: Callable[[App], Mapping[str, Value]]) -> Read:
    """Read several values of each app, with one more label before those of the app."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, totals in measurement.state.apps.items():
            labels = app_labels(key)
            for name, value in values(totals).items():
                yield (label(name), *labels), value

    return read


def single(value: Callable[[Measurement], Value]) -> Read:
    """Read one value without labels."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        yield (), value(measurement)

    return read


def is_served(state: State, key: PortKey) -> bool:
    """Return whether a port should be served: it is not closed, its app not removed, its owner not silent."""
    host, name, _ = key
    app, port = state.apps.get((host, name)), state.ports[key]
    owner = state.instances.get(port.owner)
    is_lost = bool(port.owner) and (owner is None or owner.ended == MISSED)
    return not (is_lost or port.is_closed or (app and app.removed))


def open_connections(state: State) -> Counter[PortKey]:
    """Return the number of open connections of each port, over all running instances."""
    counts: Counter[PortKey] = Counter(dict.fromkeys(state.ports, 0))
    for instance in state.running():
        for (app, port), listener in instance.listeners.items():
            counts[instance.host, app, port] += len(listener.open)
    return counts


def backends(state: State) -> dict[PortKey, dict[str, str]]:
    """Return the backends of each port that take new connections, with their addresses."""
    found: dict[PortKey, dict[str, str]] = {key: {} for key in state.ports}
    for instance in state.running():
        for (app, port), listener in instance.listeners.items():
            found[instance.host, app, port].update(listener.backends)
    return found
