"""The answer of /api/deployments: the deployments that the state holds."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from services.metrics_gateway.state.application import App, Deployment
from services.metrics_gateway.state.state import State
from services.metrics_gateway.views.times import iso


class DeploymentView(msgspec.Struct, frozen=True):
    """A deployment of an app on a host.

    `result` is running, succeeded, failed or rolled back; `phase` is where it failed. `outcome` (failed also when
    rolled back) and `failed_phase` are older names. Times as in RFC 3339, `duration` in seconds. `output`: the last
    lines of the replica with which it failed.
    """

    app: str
    host: str
    id: str
    release: str
    previous: str
    by: str
    strategy: str
    replicas: int
    outcome: str
    started_at: str | None
    ended_at: str | None
    duration: float | None
    failed_phase: str
    reason: str
    rolled_back_to: str | None
    result: str
    phase: str
    output: str = ""


class Deployments(msgspec.Struct, frozen=True):
    """The answer of /api/deployments, newest first."""

    deployments: list[DeploymentView]


def deployments(state: State, app: str, limit: int) -> Deployments:
    """Return the newest deployments of an app, or of all, `limit` at most."""
    found = [(one, name, host) for (host, name), known in state.apps.items() if app in ("", name) for one in _of(known)]
    found.sort(key=lambda item: item[0].started or 0, reverse=True)
    return Deployments([view(*item) for item in found[:limit]])


def _of(app: App) -> Iterator[Deployment]:
    """Yield the deployments of an app, newest first."""
    if app.deployment:
        yield app.deployment
    yield from reversed(app.history)


def view(one: Deployment, app: str, host: str) -> DeploymentView:
    """Return a deployment as the admin API shows it."""
    return DeploymentView(
        app=app,
        host=host,
        id=one.id,
        release=one.release,
        previous=one.previous,
        by=one.by,
        strategy=one.strategy,
        replicas=one.replicas,
        outcome=one.outcome,
        started_at=iso(one.started),
        ended_at=iso(one.ended),
        duration=one.duration,
        failed_phase=one.failed_phase,
        reason=one.reason,
        rolled_back_to=one.rolled_back_to,
        result=one.result,
        phase=one.failed_phase,
        output=one.output,
    )
