"""What an instrument is, and the ways to read one from the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import msgspec

from services.metrics_gateway.state import App, Histogram, Port, PortKey, State

Kind = Literal["counter", "updowncounter", "gauge", "histogram"]
Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = int | float | Histogram


PER_PORT = ("proxy_port", "app", "host")
PER_APP = ("app", "host")


class Moment(msgspec.Struct, frozen=True):
    """What is measured: the folded state, and what only this process knows at `now`. Times are unix seconds."""

    state: State
    now: float
    version: str
    bus_connected: bool
    otlp_exports: dict[str, int]
    saved: float = 0.0


Read: TypeAlias = Callable[[Moment], Iterator[tuple[Labels, Value]]]


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


def per_port(value: Callable[[Port], Value]) -> Read:
    def read(moment: Moment) -> Iterator[tuple[Labels, Value]]:
        for (host, app, port), totals in moment.state.ports.items():
            yield (str(port), app, host), value(totals)

    return read


def per_app(value: Callable[[App], Value]) -> Read:
    def read(moment: Moment) -> Iterator[tuple[Labels, Value]]:
        for (host, app), totals in moment.state.apps.items():
            yield (app, host), value(totals)

    return read


def single(value: Callable[[Moment], Value]) -> Read:
    def read(moment: Moment) -> Iterator[tuple[Labels, Value]]:
        yield (), value(moment)

    return read


def open_connections(state: State) -> Counter[PortKey]:
    """How many connections are open on each port, over all instances that live."""
    counts: Counter[PortKey] = Counter(dict.fromkeys(state.ports, 0))
    for instance in state.live():
        for (app, port), listener in instance.listeners.items():
            counts[instance.host, app, port] += len(listener.open)
    return counts


def backends(state: State) -> dict[PortKey, dict[str, str]]:
    """The backends of each port that take new connections of at least one instance, with their addresses."""
    found: dict[PortKey, dict[str, str]] = {key: {} for key in state.ports}
    for instance in state.live():
        for (app, port), listener in instance.listeners.items():
            found[instance.host, app, port].update(listener.backends)
    return found


def read_open_connections(moment: Moment) -> Iterator[tuple[Labels, Value]]:
    for (host, app, port), count in open_connections(moment.state).items():
        yield (str(port), app, host), count


def read_backends(moment: Moment) -> Iterator[tuple[Labels, Value]]:
    for (host, app, port), found in backends(moment.state).items():
        yield (str(port), app, host), len(found)


def read_dropped(moment: Moment) -> Iterator[tuple[Labels, Value]]:
    for (host, service), count in moment.state.dropped.items():
        yield (service, host), count


def read_otlp_exports(moment: Moment) -> Iterator[tuple[Labels, Value]]:
    for result, count in moment.otlp_exports.items():
        yield (result,), count


def read_build(moment: Moment) -> Iterator[tuple[Labels, Value]]:
    yield (moment.version,), 1
