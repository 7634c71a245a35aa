"""The state of the demo from the event log, for its table and its summary."""

from __future__ import annotations

import asyncio

import msgspec

from schemas.events import (
    AnyEvent,
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReleaseQuarantined,
    ReplicaAdopted,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaStarted,
)


class Line(msgspec.Struct):
    """A line of the table, at `time` (unix seconds)."""

    time: float
    text: str


class DemoState:
    """A fold of the log, with waits for the ends of deployments."""

    def __init__(self) -> None:
        self.events = 0
        self.rollbacks = 0
        self.lines: list[Line] = []
        self.replicas: dict[str, tuple[str, str]] = {}
        self.succeeded: set[str] = set()
        self.quarantined: set[str] = set()
        self._changed = asyncio.Condition()

    async def add(self, event: AnyEvent) -> None:
        """Fold the next event."""
        self.events += 1
        self._follow_replicas(event)
        self._follow_releases(event)
        async with self._changed:
            self._changed.notify_all()

    async def until_succeeded(self, release: str) -> None:
        """Return when a deployment of the release has succeeded."""
        async with self._changed:
            await self._changed.wait_for(lambda: release in self.succeeded)

    async def until_quarantined(self, release: str) -> None:
        """Return when the release was rolled back and put into quarantine."""
        async with self._changed:
            await self._changed.wait_for(lambda: release in self.quarantined and self.rollbacks)

    def _follow_replicas(self, event: AnyEvent) -> None:
        match event:
            case ReplicaStarted() | ReplicaAdopted():
                self.replicas[event.replica] = (event.release, "starting")
            case ReplicaReady():
                release, _ = self.replicas.get(event.replica, ("", ""))
                self.replicas[event.replica] = (release, "ready")
            case ReplicaRetired() | ReplicaExited():
                self.replicas.pop(event.replica, None)

    def _follow_releases(self, event: AnyEvent) -> None:
        match event:
            case DeploymentStarted():
                over = f" over {event.previous}" if event.previous else ""
                self._add_line(event, f"{event.release} rolls out{over}")
            case DeploymentSucceeded():
                self.succeeded.add(event.release)
                self._add_line(event, f"{event.release} serves after {event.duration:.1f} s")
            case DeploymentFailed():
                self._add_line(event, f"{event.release} failed ({event.phase}: {event.reason})")
            case DeploymentRolledBack():
                self.rollbacks += 1
                self._add_line(event, f"{event.release} rolled back, {event.to} keeps serving")
            case ReleaseQuarantined():
                self.quarantined.add(event.release)
                self._add_line(event, f"{event.release} is in quarantine until a newer release or `longshore retry`")

    def _add_line(self, event: AnyEvent, text: str) -> None:
        self.lines.append(Line(event.time, text))
