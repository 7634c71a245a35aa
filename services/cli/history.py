"""Deployments as a fold of the deployer's events."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
)
from services.common.remote import Recorded


class Deployment(msgspec.Struct):
    """One deployment. `outcome`: "running", "succeeded", "failed", "rolled back". Times are unix seconds."""

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


def deployments(events: Iterable[Recorded]) -> list[Deployment]:
    """All deployments that the events tell of, oldest first."""
    found: dict[str, Deployment] = {}
    for recorded in events:
        match recorded.event:
            case DeploymentStarted() as event:
                found[event.deployment] = Deployment(
                    event.deployment, recorded.app, recorded.host, event.release, event.previous, event.by, event.time
                )
            case DeploymentSucceeded() | DeploymentFailed() | DeploymentRolledBack() as event:
                if event.deployment in found:
                    _end(found[event.deployment], event)
    return list(found.values())


def _end(deployment: Deployment, event: DeploymentSucceeded | DeploymentFailed | DeploymentRolledBack) -> None:
    if isinstance(event, DeploymentRolledBack):
        deployment.outcome = "rolled back"
        return
    deployment.duration = event.duration
    if isinstance(event, DeploymentSucceeded):
        deployment.outcome = "succeeded"
    else:
        deployment.outcome, deployment.phase, deployment.reason = "failed", event.phase, event.reason
