"""Two releases side by side: their deployments, and their traffic as far as the log shows it."""

from __future__ import annotations

import contextlib
from typing import TypeAlias

import msgspec

from schemas import events as e
from schemas.limits import LARGEST
from services.client.client import LoggedEvent
from services.common.errors import LongshoreError
from services.metrics_gateway.state.histogram import CONNECT_LATENCY, CONNECTION_DURATION, Histogram
from services.replay.deployments import Deployment, History

Scope: TypeAlias = tuple[str, str]
"""Host and app."""

Key: TypeAlias = tuple[str, str, str]
"""Host, app and replica."""

BROKEN = ("backend_reset", "drained", "shutdown")
"""Ends of a connection that the client did not choose."""


class Served(msgspec.Struct):
    """The traffic of one or more replicas. `first` and `last`: when they began and ceased to take connections."""

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
    """A release, or one deployment of it. `deployments` are oldest first. Times are unix seconds."""

    name: str
    release: str
    digest: str
    deployments: list[Deployment]
    served: Served
    host: str
    app: str


class Comparison:
    """Folds events into the traffic of each release. Memory grows with the number of replicas."""

    def __init__(self) -> None:
        self._history = History()
        self._releases: dict[Key, str] = {}
        self._starters: dict[Key, str] = {}
        self._served: dict[Key, Served] = {}

    def add(self, recorded: LoggedEvent) -> None:
        """Add the next event of the log. One with an impossible value is skipped."""
        self._history.add(recorded)
        with contextlib.suppress(ValueError, OverflowError):
            self._count((recorded.host, recorded.app), recorded.event)

    def _count(self, scope: Scope, happened: e.AnyEvent) -> None:
        match happened:
            case e.ReplicaStarted() | e.ReplicaAdopted() as event:
                self._meet(scope, event)
            case e.ReplicaExited() as event:
                served = self._of(scope, event.replica)
                served.crashes += 1
                served.last = event.time
            case e.ReplicaRouted() as event:
                served = self._of(scope, event.replica)
                served.first = event.time if served.first is None else served.first
            case e.ReplicaDraining() as event:
                self._of(scope, event.replica).last = event.time
            case e.HealthChecked(ok=False) as event:
                self._of(scope, event.replica).health_failures += 1
            case e.ConnectionEstablished() as event:
                _connected(self._of(scope, event.backend), event)
            case e.ConnectionClosed() as event:
                _closed(self._of(scope, event.backend), event)
            case e.DialFailed() as event:
                self._of(scope, event.backend).dial_failures += 1

    def side(self, name: str) -> Side:
        """Return a release, or a deployment by the beginning of its id. Raises LongshoreError for other names."""
        known = self._history.deployments
        chosen = [one for one in known if one.release == name]
        replicas = {replica for replica, release in self._releases.items() if release == name}
        if not chosen and not replicas:
            chosen = _by_id(known, name)
            replicas = {replica for replica, starter in self._starters.items() if starter == chosen[0].deployment}
        host, app = _only(name, {(one.host, one.app) for one in chosen} | {(host, app) for host, app, _ in replicas})
        release = chosen[-1].release if chosen else name
        digest = chosen[-1].digest if chosen else ""
        served = _together([self._served[replica] for replica in sorted(replicas)])
        return Side(name, release, digest, chosen, served, host, app)

    def _meet(self, scope: Scope, event: e.ReplicaStarted | e.ReplicaAdopted) -> None:
        """Assign a replica to its release and deployment: a replacement to the last deployment of its release."""
        replica = (*scope, event.replica)
        self._releases[replica] = event.release
        self._of(scope, event.replica).replicas = 1
        deployed = (one for one in reversed(self._history.deployments) if one.release == event.release)
        newest = next((one for one in deployed if (one.host, one.app) == scope), None)
        own = event.deployment if isinstance(event, e.ReplicaStarted) else ""
        self._starters.setdefault(replica, own or (newest.deployment if newest else ""))

    def _of(self, scope: Scope, replica: str) -> Served:
        key = (*scope, replica)
        found = self._served.get(key)
        if found is None:
            found = self._served[key] = Served()
        return found


def _connected(served: Served, event: e.ConnectionEstablished) -> None:
    _check(event.latency)
    served.connections += 1
    served.latency.observe(event.latency)


def _closed(served: Served, event: e.ConnectionClosed) -> None:
    _check(event.duration, event.bytes_in, event.bytes_out)
    served.bytes += event.bytes_in + event.bytes_out
    served.broken += event.reason in BROKEN
    served.duration.observe(event.duration)


def _check(seconds: float, *sizes: int) -> None:
    """Raise ValueError for a duration or a number of bytes that no connection can have."""
    if not -LARGEST < seconds < LARGEST or any(size < 0 for size in sizes):
        raise ValueError


def _only(name: str, scopes: set[Scope]) -> Scope:
    """Return the one host and app of a name. Raises LongshoreError for several."""
    hosts, apps = (sorted(set(names)) for names in zip(*scopes, strict=True))
    if len(apps) > 1:
        raise LongshoreError(f"{name} is a release of several applications ({', '.join(apps)}): choose with --app")
    if len(hosts) > 1:
        raise LongshoreError(f"{name} is a release on several hosts ({', '.join(hosts)}): choose with --host")
    return hosts[0], apps[0]


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
