"""Two releases side by side: what each was, and how it did while it served, as far as the log tells."""

from __future__ import annotations

import contextlib

import msgspec

from schemas import events as e
from services.common.errors import LongshoreError
from services.common.remote import Recorded
from services.metrics_gateway.state import CONNECT_LATENCY, CONNECTION_DURATION, Histogram
from services.replay.deployments import Deployment, History

BROKEN = ("backend_reset", "drained", "shutdown")
"""Ends of a connection that the client did not choose."""


class Served(msgspec.Struct):
    """What one or more replicas did; `first` and `last`: when they began and ceased to take connections."""

    replicas: int = 0
    connections: int = 0
    bytes: int = 0
    dial_failures: int = 0
    broken: int = 0
    crashes: int = 0
    health_failures: int = 0
    first: float | None = None
    last: float | None = None
    latency: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECT_LATENCY))
    duration: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECTION_DURATION))


class Side(msgspec.Struct):
    """A release, or one deployment of it. `deployments` of it are oldest first. Times are unix or plain seconds."""

    name: str
    release: str
    digest: str
    deployments: list[Deployment]
    served: Served


class Comparison:
    """Folds events of one app into what its releases did; memory grows with its replicas."""

    def __init__(self) -> None:
        self._history = History()
        self._releases: dict[str, str] = {}
        self._starters: dict[str, str] = {}
        self._served: dict[str, Served] = {}

    def add(self, recorded: Recorded) -> None:
        """The next event of the log; one with an impossible value is passed over."""
        self._history.add(recorded)
        with contextlib.suppress(ValueError, OverflowError):
            self._count(recorded.event)

    def _count(self, happened: e.AnyEvent) -> None:
        match happened:
            case e.ReplicaStarted() | e.ReplicaAdopted() as event:
                self._meet(event)
            case e.ReplicaExited() as event:
                self._of(event.replica).crashes += 1
                self._of(event.replica).last = event.time
            case e.ReplicaRouted() as event:
                served = self._of(event.replica)
                served.first = event.time if served.first is None else served.first
            case e.ReplicaDraining() as event:
                self._of(event.replica).last = event.time
            case e.HealthChecked(ok=False) as event:
                self._of(event.replica).health_failures += 1
            case e.ConnectionEstablished() as event:
                self._connected(event)
            case e.ConnectionClosed() as event:
                self._closed(event)
            case e.DialFailed() as event:
                self._of(event.backend).dial_failures += 1

    def side(self, name: str) -> Side:
        """A release, or a deployment by the beginning of its id. Raises LongshoreError for what is neither."""
        known = self._history.deployments
        chosen = [one for one in known if one.release == name]
        replicas = {replica for replica, release in self._releases.items() if release == name}
        if not chosen and not replicas:
            chosen = _by_id(known, name)
            replicas = {replica for replica, starter in self._starters.items() if starter == chosen[0].deployment}
        apps = sorted({one.app for one in chosen})
        if len(apps) > 1:
            raise LongshoreError(f"{name} is a release of several applications ({', '.join(apps)}): choose with --app")
        release = chosen[-1].release if chosen else name
        digest = chosen[-1].digest if chosen else ""
        return Side(name, release, digest, chosen, _together([self._of(replica) for replica in sorted(replicas)]))

    def _meet(self, event: e.ReplicaStarted | e.ReplicaAdopted) -> None:
        """One that takes the place of another belongs to the deployment that its release was last rolled out with."""
        self._releases[event.replica] = event.release
        self._of(event.replica).replicas = 1
        newest = next((one for one in reversed(self._history.deployments) if one.release == event.release), None)
        own = event.deployment if isinstance(event, e.ReplicaStarted) else ""
        self._starters.setdefault(event.replica, own or (newest.deployment if newest else ""))

    def _connected(self, event: e.ConnectionEstablished) -> None:
        served = self._of(event.backend)
        served.connections += 1
        served.latency.observe(event.latency)

    def _closed(self, event: e.ConnectionClosed) -> None:
        served = self._of(event.backend)
        served.bytes += event.bytes_in + event.bytes_out
        served.broken += event.reason in BROKEN
        served.duration.observe(event.duration)

    def _of(self, replica: str) -> Served:
        found = self._served.get(replica)
        if found is None:
            found = self._served[replica] = Served()
        return found


def _by_id(known: list[Deployment], name: str) -> list[Deployment]:
    found = [one for one in known if name and one.deployment.startswith(name)]
    if len(found) != 1:
        what = "begins the id of several deployments" if found else "is neither a release nor a deployment of this log"
        raise LongshoreError(f"{name!r} {what}: see `longshore history`")
    return found


def _together(parts: list[Served]) -> Served:
    total = Served()
    for part in parts:
        for field in ("replicas", "connections", "bytes", "dial_failures", "broken", "crashes", "health_failures"):
            setattr(total, field, getattr(total, field) + getattr(part, field))
        _add(total.latency, part.latency)
        _add(total.duration, part.duration)
    total.first = min((part.first for part in parts if part.first is not None), default=None)
    total.last = max((part.last for part in parts if part.last is not None), default=None)
    if any(part.first is not None and part.last is None for part in parts):
        total.last = None
    return total


def _add(total: Histogram, part: Histogram) -> None:
    total.counts = [one + other for one, other in zip(total.counts, part.counts, strict=True)]
    total.nanoseconds += part.nanoseconds
