"""What the gateway knows: plain data that the fold changes and everybody else only reads.

Durations are summed in whole nanoseconds: integers give the same sum in any order, floats do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal, TypeAlias, TypeVar

import msgspec

from schemas.events import AnyEvent

CONNECTION_DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
CONNECT_LATENCY = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
DEPLOYMENT_DURATION = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

RECENT_KEPT = 500
"""So many events that are no details are kept at least (`recent`), and twice as many at most."""

DEPLOYMENTS_KEPT = 50
"""So many deployments of an app before its last one are kept."""

AppKey: TypeAlias = tuple[str, str]
"""Host and app."""

PortKey: TypeAlias = tuple[str, str, int]
"""Host, app and proxy port."""

Phase = Literal["starting", "ready", "serving", "draining"]
Outcome = Literal["running", "succeeded", "failed"]


class Histogram(msgspec.Struct):
    """How many durations fell at or below each bound and above the one before; the last count is above all."""

    bounds: tuple[float, ...]
    counts: list[int]
    nanoseconds: int = 0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        """Add one duration. Raises ValueError or OverflowError, and adds nothing, if it is not a finite number."""
        nanoseconds = int(seconds * 1e9 + 0.5)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.nanoseconds += nanoseconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def sum(self) -> float:
        """All durations together, in seconds."""
        return self.nanoseconds / 1e9


class Port(msgspec.Struct):
    """The totals of one proxy port, over all instances that ever served it."""

    connections: int = 0
    bytes: int = 0
    errors: int = 0
    duration: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECTION_DURATION))
    latency: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECT_LATENCY))


class Listener(msgspec.Struct):
    """A port as one proxy instance serves it.

    `address` is empty while it does not listen. `open` maps each open connection to its bytes so far, `closed` each
    one that ended while an earlier batch was missing to its bytes in all; `backends` maps those that take new
    connections to their addresses.
    """

    address: str = ""
    open: dict[int, int] = {}
    closed: dict[int, int] = {}
    backends: dict[str, str] = {}


class Heartbeat(msgspec.Struct, frozen=True):
    """How an instance was at `time`: resident bytes, CPU seconds since its start, delay of its event loop."""

    time: float
    rss: int
    cpu: float
    loop_lag: float


class Instance(msgspec.Struct):
    """One process that publishes events, and how far its sequence is applied.

    `born` numbers the instances as they appear in the log. `missing` holds the batches below `last` that may still
    come; while there are any, `positions` tells which batch spoke last about what, so that a late one changes nothing
    that a later one has decided. `ended` is the reason why it is over, None while it runs; `silent` says that its own
    last word was heard. `links` are the ends of its chain (`schemas.chain`).
    """

    id: str
    service: str
    host: str
    born: int
    last: int = 0
    missing: set[int] = set()
    positions: dict[tuple[str, ...], int] = {}
    unit: str = ""
    version: str = ""
    pid: int = 0
    parent: str = ""
    started: float | None = None
    heartbeat: Heartbeat | None = None
    ended: str | None = None
    silent: bool = False
    links: dict[int, bytes] = {}
    listeners: dict[tuple[str, int], Listener] = {}


class Replica(msgspec.Struct):
    """A replica; one that does not run is remembered only while an earlier batch about it may be missing."""

    id: str
    running: bool = False
    release: str = ""
    address: str = ""
    pid: int = 0
    started: float | None = None
    deployed: float | None = None
    phase: Phase = "starting"
    healthy: bool | None = None


class Deployment(msgspec.Struct):
    """A deployment of an app on a host."""

    id: str
    release: str
    previous: str = ""
    by: str = ""
    strategy: str = ""
    replicas: int = 0
    started: float | None = None
    ended: float | None = None
    duration: float | None = None
    outcome: Outcome = "running"
    failed_phase: str = ""
    reason: str = ""
    rolled_back_to: str | None = None


class App(msgspec.Struct):
    """One app on one host: the totals, and what is true now.

    `deployment` is the last one, `history` holds those before it, oldest first.
    """

    deployments: int = 0
    deployment_errors: int = 0
    deployment_duration: Histogram = msgspec.field(default_factory=lambda: Histogram.over(DEPLOYMENT_DURATION))
    healthchecks: int = 0
    healthcheck_failures: int = 0
    release: str = ""
    deployment: Deployment | None = None
    replicas: dict[str, Replica] = {}
    quarantined: dict[str, str] = {}
    paused: bool = False
    history: list[Deployment] = []

    @property
    def running(self) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.running]


class Recent(msgspec.Struct, frozen=True):
    """An event that was folded lately, with the stream sequence of its message and who published it."""

    sequence: int
    service: str
    host: str
    app: str
    event: AnyEvent


HISTOGRAMS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "dewy.proxy.connection.duration": (Port, "duration"),
    "dewy.proxy.connect.latency": (Port, "latency"),
    "dewy.deployment.duration": (App, "deployment_duration"),
}
"""Where the state keeps each histogram: the part of it, and the field."""

Part = TypeVar("Part", bound=msgspec.Struct)


class State(msgspec.Struct):
    """Everything. `position` and `time` are the stream sequence and store time (unix seconds) of the newest message.

    `first` is the sequence at which the log began; `abandoned` counts batches that will not be waited for any more;
    `malformed` counts known events with impossible values, `chain_breaks` batches that do not fit their neighbours.
    `dropped` is by host and service. `buckets` are bounds of histograms other than the usual ones, by metric.
    """

    position: int = 0
    first: int = 0
    time: float = 0.0
    events: int = 0
    unknown: int = 0
    malformed: int = 0
    undecodable: int = 0
    repeated: int = 0
    late: int = 0
    abandoned: int = 0
    chain_breaks: int = 0
    dropped: dict[tuple[str, str], int] = {}
    born: int = 0
    instances: dict[str, Instance] = {}
    units: dict[tuple[str, str], str] = {}
    apps: dict[AppKey, App] = {}
    ports: dict[PortKey, Port] = {}
    buckets: dict[str, tuple[float, ...]] = {}
    recent: list[Recent] = []

    def new(self, part: type[Part]) -> Part:
        """An empty part of the state, its histograms in the buckets that were asked for."""
        own = {name: field for name, (kind, field) in HISTOGRAMS.items() if kind is part and name in self.buckets}
        return part(**{field: Histogram.over(self.buckets[name]) for name, field in own.items()})

    def live(self) -> Iterator[Instance]:
        """The instances that have not ended."""
        return (instance for instance in self.instances.values() if instance.ended is None)

    def missing(self) -> int:
        """Batches that were published and have not come."""
        return self.abandoned + sum(len(instance.missing) for instance in self.instances.values())
