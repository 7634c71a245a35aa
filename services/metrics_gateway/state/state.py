"""The gateway's state: plain data that the fold changes and all other modules only read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, TypeVar

import msgspec

from schemas.events import AnyEvent
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.state.instance import Instance, Service
from services.metrics_gateway.state.port import Backend, Port
from services.metrics_gateway.state.tracing import Tracing

RECENT_KEPT = 500
"""Events in `recent` that are kept at least; at most, there are twice as many."""

AppKey: TypeAlias = tuple[str, str]
"""Host and app."""

PortKey: TypeAlias = tuple[str, str, int]
"""Host, app and proxy port."""

UnitKey: TypeAlias = tuple[str, str, str]
"""Service, unit and host."""


class Recent(msgspec.Struct, frozen=True):
    """A recent event, with the stream sequence of its message, and its publisher."""

    sequence: int
    service: str
    host: str
    app: str
    event: AnyEvent


HISTOGRAMS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "dewy.proxy.connection.duration": (Port, "duration"),
    "dewy.proxy.connect.latency": (Port, "latency"),
    "longshore.proxy.hold.duration": (Port, "hold"),
    "longshore.proxy.backend.connect.latency": (Backend, "latency"),
    "dewy.deployment.duration": (App, "deployment_duration"),
    "longshore.deployment.phase.duration": (App, "phases"),
    "longshore.healthcheck.duration": (App, "healthcheck_duration"),
    "longshore.event.lag": (Service, "lag"),
}
"""The part and the field of the state that holds each histogram, or a histogram for each value of a label."""

Part = TypeVar("Part", bound=msgspec.Struct)


class State(msgspec.Struct):
    """The whole state of the gateway.

    `position` and `time` are the stream sequence and store time (unix seconds) of the newest message, `first` and
    `began` those at which the log began. `abandoned` counts batches that the fold no longer waits for, `malformed`
    known events with impossible values, `misfits` batches that cannot be of their publisher, `chain_breaks` batches
    that do not fit their neighbours. `children` are the instances that end with a parent, by parent; `ended` those that
    have ended, in that order. `dropped` is by host and service. `buckets` are histogram bounds that differ from the
    usual ones, by metric.

    `clock`: seconds during which the log was written to; it stands still while the bus is away. `last_stored` is the
    store time of the last message, `next_expiry` the clock at which expired parts are next dropped. `spent`: CPU time
    of dropped instances, in nanoseconds. `messages_lost` left the log before they were folded. `log` identifies what is
    counted: the creation time of the log with which the counting began. It stays when the numbers continue with another
    log.
    """

    position: int = 0
    first: int = 0
    began: float = 0.0
    time: float = 0.0
    events: int = 0
    unknown: int = 0
    malformed: int = 0
    misfits: int = 0
    undecodable: int = 0
    repeated: int = 0
    late: int = 0
    abandoned: int = 0
    chain_breaks: int = 0
    dropped: dict[tuple[str, str], int] = {}
    last_ordinal: int = msgspec.field(default=0, name="born")
    instances: dict[str, Instance] = {}
    children: dict[str, dict[str, None]] = {}
    ended: dict[str, None] = msgspec.field(default_factory=dict, name="over")
    units: dict[tuple[str, str], str] = {}
    apps: dict[AppKey, App] = {}
    ports: dict[PortKey, Port] = {}
    buckets: dict[str, tuple[float, ...]] = {}
    recent: list[Recent] = []
    services: dict[str, Service] = {}
    spent: dict[UnitKey, int] = {}
    clock: float = 0.0
    last_stored: float = msgspec.field(default=0.0, name="told")
    next_expiry: float = msgspec.field(default=0.0, name="due")
    tracing: Tracing = msgspec.field(default_factory=Tracing)
    messages_lost: int = 0
    log: str = ""

    def new(self, part: type[Part]) -> Part:
        """Return an empty part of the state, its histograms with the configured buckets."""
        made = part()
        for name, bounds in self.buckets.items():
            kind, field = HISTOGRAMS[name]
            if kind is part:
                setattr(made, field, _over(getattr(made, field), bounds))
        return made

    def running(self) -> Iterator[Instance]:
        """Iterate over the instances that have not ended."""
        return (instance for instance in self.instances.values() if instance.ended is None)

    def missing(self) -> int:
        """Return how many batches were published and have not come."""
        return self.abandoned + sum(one.missed(one.missing) for one in self.instances.values())


def _over(histograms: Histogram | dict[str, Histogram], bounds: tuple[float, ...]) -> Histogram | dict[str, Histogram]:
    if isinstance(histograms, Histogram):
        return Histogram.over(bounds)
    return {label: Histogram.over(bounds) for label in histograms}
