"""Deployments as a fold of the deployer's events."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import get_args

import msgspec

from schemas import events as e
from services.client.client import LoggedEvent

PHASES: dict[type[e.Event], str] = {
    e.ImagePulled: "pull",
    e.ReplicaStarted: "start",
    e.ReplicaReady: "check",
    e.ReplicaRouted: "route",
    e.ReplicaDrained: "drain",
    e.ReplicaRetired: "stop",
}
"""The phase of one replica that each of these events ends."""

AnyEnd = e.DeploymentSucceeded | e.DeploymentFailed | e.DeploymentRolledBack


class Deployment(msgspec.Struct):
    """One deployment. `outcome`: "running", "succeeded", "failed", "rolled back"; "waiting": it has not begun.

    `previous` ran before; digests are empty where the log has none. `phases` are the seconds of each phase, over all
    replicas together, including a rollback's. Times are unix seconds. `kind`: "release"; or the release stayed, and
    this was a deployment of other "options", a "restart" or a "redeploy". `changed`: the options that differ. `output`:
    the last lines of the replica with which it failed.
    """

    deployment: str
    app: str
    host: str
    release: str
    previous: str
    by: str
    started: float
    outcome: str = "running"
    duration: float = 0.0
    phase: str = ""
    reason: str = ""
    digest: str = ""
    previous_digest: str = ""
    strategy: str = ""
    replicas: int = 0
    ended: float | None = None
    phases: dict[str, float] = {}
    output: str = ""
    kind: str = "release"
    changed: list[str] = []


class History:
    """All deployments in the events of deployers, which are added in their order."""

    def __init__(self) -> None:
        self._found: dict[str, Deployment] = {}
        self._digests: dict[tuple[str, str, str], str] = {}
        self._waiting: dict[tuple[str, str], Deployment] = {}
        self._last_event: dict[str, float] = {}

    @property
    def deployments(self) -> list[Deployment]:
        """All deployments, oldest first."""
        return list(self._found.values())

    @property
    def waiting(self) -> list[Deployment]:
        """The releases that wait for another host."""
        return list(self._waiting.values())

    def add(self, recorded: LoggedEvent) -> None:
        """Add the next event."""
        event = recorded.event
        if isinstance(event, e.ReleaseFound):
            self._digests[recorded.host, recorded.app, event.release] = event.digest
        elif isinstance(event, e.ReleaseWaiting):
            self._wait(recorded, event)
        elif isinstance(event, e.ApplicationRemoved):
            self._waiting.pop((recorded.host, recorded.app), None)
        elif isinstance(event, e.DeploymentStarted):
            self._waiting.pop((recorded.host, recorded.app), None)
            if event.deployment not in self._found:  # a deployer may repeat it after a crash
                self._start(recorded, event)
        else:
            found = self._found.get(getattr(event, "deployment", ""))
            if found:
                self._go_on(found, event)

    def _wait(self, recorded: LoggedEvent, event: e.ReleaseWaiting) -> None:
        key = recorded.host, recorded.app
        since = self._waiting.pop(key, None)
        if event.reason:
            started = since.started if since and since.release == event.release else event.time
            digest = self._digest(recorded, event.release)
            self._waiting[key] = Deployment(
                *("", recorded.app, recorded.host, event.release, "", "registry", started, "waiting"),
                reason=event.reason,
                digest=digest,
            )

    def _start(self, recorded: LoggedEvent, event: e.DeploymentStarted) -> None:
        before = self._digest(recorded, event.previous)
        if event.digest:
            self._digests[recorded.host, recorded.app, event.release] = event.digest
        self._last_event[event.deployment] = event.time
        self._found[event.deployment] = Deployment(
            event.deployment,
            recorded.app,
            recorded.host,
            event.release,
            event.previous,
            event.by,
            event.time,
            digest=event.digest or self._digest(recorded, event.release),
            previous_digest=before,
            strategy=event.strategy,
            replicas=event.replicas,
            kind=event.kind,
            changed=event.changed,
            phases={"resolve": round(event.resolved, 6)} if event.resolved else {},
        )

    def _digest(self, recorded: LoggedEvent, release: str) -> str:
        return self._digests.get((recorded.host, recorded.app, release), "")

    def _go_on(self, deployment: Deployment, event: e.AnyEvent) -> None:
        since = self._last_event[deployment.deployment]
        self._last_event[deployment.deployment] = max(since, event.time)
        gap = max(0.0, event.time - since)
        if isinstance(event, e.DeploymentFailed):
            _took(deployment, event.phase, gap)
        elif phase := PHASES.get(type(event)):
            _took(deployment, phase, getattr(event, "duration", 0.0) or gap)
        if isinstance(event, get_args(AnyEnd)):
            _end(deployment, event)


async def deployments(events: AsyncIterable[LoggedEvent]) -> list[Deployment]:
    """Return all deployments in the events, oldest first, and then the releases that wait for another host."""
    history = History()
    async for recorded in events:
        history.add(recorded)
    return [*history.deployments, *history.waiting]


def _took(deployment: Deployment, phase: str, seconds: float) -> None:
    """Add to a phase. Without a duration, as in old logs, it is the time since the event before."""
    deployment.phases[phase] = round(deployment.phases.get(phase, 0.0) + seconds, 6)


def _end(deployment: Deployment, event: AnyEnd) -> None:
    deployment.ended = event.time
    if isinstance(event, e.DeploymentRolledBack):
        deployment.outcome = "rolled back"
        return
    deployment.duration = event.duration
    if isinstance(event, e.DeploymentSucceeded):
        deployment.outcome = "succeeded"
    else:
        deployment.outcome, deployment.phase, deployment.reason = "failed", event.phase, event.reason
        deployment.output = event.output
