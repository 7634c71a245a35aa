"""The present state of an application, from the buckets and the log, and the judgement on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from services.cli.overview import AppView
from services.metrics_gateway.state.application import App, Deployment


class Running(msgspec.Struct, frozen=True):
    """The deployment under way: since when (unix seconds), its present phase, and how many of its replicas serve."""

    deployment: str
    release: str
    by: str
    started: float | None
    phase: str
    serving: int
    wanted: int


class Failure(msgspec.Struct, frozen=True):
    """The last deployment, which failed: when (unix seconds), where and why. `output`: the replica's last lines."""

    deployment: str
    release: str
    at: float | None
    phase: str
    reason: str
    output: str


class Report(msgspec.Struct):
    """One application on one host.

    `since`: when its release became the current one. `desired_replicas` is None if the log does not say. `running` is
    the deployment under way. `problems` are the findings of `--check`. Times are unix seconds.
    """

    host: str
    view: AppView
    since: float | None = None
    desired_replicas: int | None = None
    pinned_by: str = ""
    pinned_since: float | None = None
    paused_since: float | None = None
    quarantined_since: dict[str, float] = {}
    registry: str = ""
    registry_error: str = ""
    registry_failures: int = 0
    registry_failing_since: float | None = None
    running: Running | None = None
    failure: Failure | None = None
    started: dict[str, float] = {}
    problems: list[str] = []

    def as_object(self) -> dict[str, Any]:
        """Return the report as `--json` prints it: the fields of the application beside those of the report."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("host", "view", "started")}
        replicas = [msgspec.to_builtins(one) | {"started": self.started.get(one.id)} for one in self.view.replicas]
        return {"host": self.host, **msgspec.to_builtins(self.view), **own, "replicas": replicas}


def report(host: str, view: AppView, app: App | None, has_leader: bool = True) -> Report:
    """Return the report on an application; `app` is its part of the log's state, `has_leader`: a deployer leads it."""
    found = Report(host, view)
    if app:
        _add_log(found, app)
    found.problems = [] if has_leader and (app is None or app.is_known) else ["its deployer does not run"]
    found.problems += _problems(found)
    return found


def _add_log(found: Report, app: App) -> None:
    view, last, error = found.view, app.deployment, app.registry_error
    succeeded = [one for one in _deployments(app) if one.outcome == "succeeded" and one.release == view.release]
    found.since = max((one.ended for one in succeeded if one.ended is not None), default=None)
    found.desired_replicas = app.desired
    if app.pinned and view.pinned:
        found.pinned_by, found.pinned_since = app.pinned.by, app.pinned.since
    found.paused_since = app.paused_since if view.paused else None
    found.quarantined_since = {name: at for name, at in app.quarantined_since.items() if name in view.quarantined}
    found.registry = app.registry
    if error:
        found.registry_error, found.registry_failures, found.registry_failing_since = (
            error.reason,
            app.streak,
            error.since,
        )
    if last and last.outcome == "running":
        found.running = _running(app, last)
    elif last and last.outcome == "failed":
        found.failure = Failure(last.id, last.release, last.ended, last.failed_phase, last.reason, last.output)
    found.started = {one.id: one.started for one in app.running if one.started is not None}


def _deployments(app: App) -> list[Deployment]:
    return [*app.history, *([app.deployment] if app.deployment else [])]


def _running(app: App, last: Deployment) -> Running:
    replicas = Counter(one.phase for one in app.running if one.release == last.release)
    drains = any(one.phase == "draining" for one in app.running)
    if not replicas:
        phase = "pull"
    elif replicas["starting"]:
        phase = "check"
    elif replicas["ready"]:
        phase = "route"
    else:
        phase = "drain" if drains else "start"
    return Running(last.id, last.release, last.by, last.started, phase, replicas["serving"], last.replicas)


def _problems(found: Report) -> list[str]:
    view = found.view
    serving = sum(1 for one in view.replicas if one.routed == "active")
    problems = []
    if found.desired_replicas and serving < found.desired_replicas and not found.running:
        problems.append(f"{serving} of {found.desired_replicas} replicas serve")
    elif not serving and found.desired_replicas != 0:
        problems.append("no replica serves")
    problems += [f"{one.id} is {one.health}" for one in view.replicas if one.health.startswith("unhealthy")]
    problems += [f"release {release} is quarantined: {reason}" for release, reason in view.quarantined.items()]
    if view.failed_options:
        problems.append(f"a change of options is quarantined: {view.failed_options}")
    if found.registry_error:
        problems.append(f"the registry fails: {found.registry_error}")
    return problems
