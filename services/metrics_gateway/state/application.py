"""An application on one host: its replicas, its deployments, and their counts."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.metrics_gateway.state.histogram import (
    DEPLOYMENT_DURATION,
    HEALTHCHECK_DURATION,
    PHASE_DURATION,
    Histogram,
)
from services.metrics_gateway.state.usage import Usage

PHASES = ("resolve", "pull", "start", "check", "route", "drain", "stop")
FAILURES = ("hook", "pull", "start", "check", "route", "drain")
EXITS = ("finished", "error", "signal", "oom", "unseen")

DEPLOYMENTS_KEPT = 50
"""Deployments of an app that are kept besides its last one."""

Phase = Literal["starting", "ready", "serving", "draining"]
Outcome = Literal["running", "succeeded", "failed"]


class Exit(msgspec.Struct, frozen=True):
    """The end of a replica that its deployer did not stop: exit status, -N for signal N, -1000 if unknown.

    `output`: its last lines.
    """

    code: int
    oom: bool
    output: str = ""


class Pin(msgspec.Struct, frozen=True):
    """The release that an operator chose over the registry's newest, since when (unix seconds), and the operator."""

    since: float
    release: str
    by: str


class Problem(msgspec.Struct, frozen=True):
    """A failure that lasts: since when (unix seconds), and its last reason."""

    since: float | None
    reason: str


class Replica(msgspec.Struct):
    """A replica that runs, or that ended by itself lately.

    `slot` is its number among the replicas of its release, -1 if unknown. `exit` is its last exit; `exited` is when
    that was, on the clock of the state, None while it runs. A replica that neither runs nor has exited is kept only
    while an earlier batch about it may be missing. `restarts` counts how often its engine started it again while
    a deployer watched. `usage`: None before its first sample.
    """

    id: str
    running: bool = False
    release: str = ""
    address: str = ""
    pid: int = 0
    slot: int = -1
    started: float | None = None
    deployed: float | None = None
    phase: Phase = "starting"
    healthy: bool | None = None
    exit: Exit | None = None
    exited: float | None = None
    restarts: int = 0
    usage: Usage | None = None


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
    output: str = ""

    @property
    def result(self) -> str:
        """The outcome in the words of `longshore history`: a failed deployment that was undone is "rolled back"."""
        return "rolled back" if self.rolled_back_to is not None else self.outcome


class App(msgspec.Struct):
    """One app on one host: the totals, and the current state.

    `deployment` is the last one, `history` holds those before it, oldest first. `deployer` is the ordinal of the newest
    instance that spoke for the app; while that is `lost`, no replica counts as running. `stopped`: the deployer has
    reported its stop, and no other has started. `removed`: the app was removed from its host. `starts` counts, by slot,
    the replicas that replaced a dead one. `streak` is the number of registry failures in a row, `registry_error` the
    last of them; `registry_began` is when the last streak began. Times of `quarantined_since`, by release,
    `registry_began` and `paused_since` are unix seconds.
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
    phases: dict[str, Histogram] = msgspec.field(
        default_factory=lambda: {phase: Histogram.over(PHASE_DURATION) for phase in PHASES}
    )
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FAILURES, 0))
    rollbacks: int = 0
    exits: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(EXITS, 0))
    starts: dict[int, int] = {}
    desired: int | None = None
    healthcheck_duration: Histogram = msgspec.field(default_factory=lambda: Histogram.over(HEALTHCHECK_DURATION))
    registry: str = ""
    registry_failures: int = 0
    streak: int = 0
    deployer: int = 0
    lost: bool = False
    stopped: bool = False
    removed: bool = False
    pinned: Pin | None = None
    paused_since: float | None = None
    quarantined_since: dict[str, float] = {}
    registry_error: Problem | None = None
    registry_began: float | None = None

    @property
    def is_known(self) -> bool:
        """True if the log shows the present state of the app."""
        return not (self.lost or self.stopped or self.removed)

    @property
    def running(self) -> list[Replica]:
        """The replicas that run."""
        return [] if self.lost or self.removed else [replica for replica in self.replicas.values() if replica.running]

    @property
    def is_deploying(self) -> bool:
        """True while a deployment is in progress."""
        return (
            not self.lost and not self.removed and self.deployment is not None and self.deployment.outcome == "running"
        )
