"""An application on one host: its replicas, its deployments, and what is counted of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.metrics_gateway.state.histogram import (
    DEPLOYMENT_DURATION,
    HEALTHCHECK_DURATION,
    PHASE_DURATION,
    Histogram,
)

PHASES = ("resolve", "pull", "start", "check", "route", "drain", "stop")
FAILURES = ("hook", "pull", "start", "check", "route", "drain")
EXITS = ("finished", "error", "signal", "oom", "unseen")

DEPLOYMENTS_KEPT = 50
"""So many deployments of an app before its last one are kept."""

Phase = Literal["starting", "ready", "serving", "draining"]
Outcome = Literal["running", "succeeded", "failed"]


class Exit(msgspec.Struct, frozen=True):
    """How a replica ended by itself: exit status, -N for signal N, or -1000 when nobody saw it."""

    code: int
    oom: bool


class Replica(msgspec.Struct):
    """A replica that runs, or that ended by itself lately.

    `slot` is its number among those of its release, -1 where it is not known. `exit` is how it last ended by itself,
    `exited` when, on the clock of the state, None while it runs. One that neither runs nor has exited is remembered
    only while an earlier batch about it may be missing.
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

    `deployment` is the last one, `history` holds those before it, oldest first. `deployer` is the birth number of the
    newest instance that spoke for the app; while that is `lost`, nothing of the app is taken to run. `stopped`: it has
    said good-bye, and no other has come; `removed`: the app was taken off its host. `starts` counts,
    by slot, replicas that were started in place of one that had died. `streak` are failures of the registry in a row.
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

    @property
    def is_known(self) -> bool:
        """Whether anybody can say how the app is now."""
        return not (self.lost or self.stopped or self.removed)

    @property
    def running(self) -> list[Replica]:
        return [] if self.lost or self.removed else [replica for replica in self.replicas.values() if replica.running]

    @property
    def is_deploying(self) -> bool:
        return (
            not self.lost and not self.removed and self.deployment is not None and self.deployment.outcome == "running"
        )
