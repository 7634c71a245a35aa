"""The events of deployments, folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from schemas import events as e
from services.metrics_gateway.fold.context import Place
from services.metrics_gateway.state.application import DEPLOYMENTS_KEPT, App, Deployment
from services.metrics_gateway.state.port import count

Handler: TypeAlias = Callable[[Place, Any], None]

_TOLD: dict[type[e.Event], Callable[[Deployment], bool]] = {
    e.DeploymentStarted: lambda known: known.started is not None,
    e.DeploymentSucceeded: lambda known: known.outcome != "running",
    e.DeploymentFailed: lambda known: known.outcome != "running",
    e.DeploymentRolledBack: lambda known: known.rolled_back_to is not None,
}
"""Whether a deployment's record already says what an event tells."""


def told_once(kind: type[e.Event], handler: Handler) -> Handler:
    """The handler of an event that a deployer may tell again after a crash: the second time it is nothing new."""
    is_told = _TOLD.get(kind)
    if is_told is None:
        return handler

    def once(place: Place, event: Any) -> None:
        known = _known(place.delivery(), event.deployment)
        if known is None or not is_told(known):
            handler(place, event)

    return once


def deployer_started(place: Place, name: str) -> None:
    """A deployer of this app runs; it does not know yet whether the registry fails."""
    app = place.delivery(name)
    speak(place, app)
    if place.is_latest_of(name, "registry"):
        app.streak = 0


def application_removed(place: Place, event: e.ApplicationRemoved) -> None:
    app = place.delivery()
    speak(place, app)
    app.removed = app.removed or place.instance.born == app.deployer


def scale_set(place: Place, event: e.ScaleSet) -> None:
    if place.is_latest("desired"):
        place.delivery().desired = event.replicas


def release_found(place: Place, event: e.ReleaseFound) -> None:
    if place.is_latest("found"):
        place.delivery().registry = event.registry


def registry_failed(place: Place, event: e.RegistryFailed) -> None:
    app = place.delivery()
    app.registry_failures += 1
    if place.is_latest("registry"):
        app.streak = event.streak


def registry_recovered(place: Place, event: e.RegistryRecovered) -> None:
    if place.is_latest("registry"):
        place.delivery().streak = 0


def image_pulled(place: Place, event: e.ImagePulled) -> None:
    passed(place, "pull", event.deployment, event.duration)


def deployment_started(place: Place, event: e.DeploymentStarted) -> None:
    passed(place, "resolve", event.deployment, event.resolved)
    if place.is_latest("desired"):
        place.delivery().desired = event.replicas
    deployment = _deployment(place, event.deployment, event.release)
    deployment.previous = event.previous
    deployment.by = event.by
    deployment.strategy = event.strategy
    deployment.replicas = event.replicas
    deployment.started = event.time


def deployment_succeeded(place: Place, event: e.DeploymentSucceeded) -> None:
    app = place.delivery()
    app.deployments += 1
    if place.is_latest("release"):
        app.release = event.release
    deployment = _deployment(place, event.deployment, event.release)
    deployment.outcome = "succeeded"
    deployment.ended = event.time
    deployment.duration = event.duration
    app.deployment_duration.observe(event.duration)


def deployment_failed(place: Place, event: e.DeploymentFailed) -> None:
    app = place.delivery()
    app.deployment_errors += 1
    count(app.failures, event.phase)
    deployment = _deployment(place, event.deployment, event.release)
    deployment.outcome = "failed"
    deployment.ended = event.time
    deployment.duration = event.duration
    deployment.failed_phase = event.phase
    deployment.reason = event.reason
    app.deployment_duration.observe(event.duration)


def deployment_rolled_back(place: Place, event: e.DeploymentRolledBack) -> None:
    place.delivery().rollbacks += 1
    if place.is_latest("release"):
        place.delivery().release = event.to
    deployment = _deployment(place, event.deployment, event.release)
    deployment.rolled_back_to = event.to


def release_quarantined(place: Place, event: e.ReleaseQuarantined) -> None:
    if place.is_latest("quarantine", event.release):
        place.delivery().quarantined[event.release] = event.reason


def quarantine_lifted(place: Place, event: e.QuarantineLifted) -> None:
    if place.is_latest("quarantine", event.release):
        place.delivery().quarantined.pop(event.release, None)


def deployments_paused(place: Place, event: e.DeploymentsPaused) -> None:
    if place.is_latest("paused"):
        place.delivery().paused = True


def deployments_resumed(place: Place, event: e.DeploymentsResumed) -> None:
    if place.is_latest("paused"):
        place.delivery().paused = False


def speak(place: Place, app: App) -> None:
    """The newest instance that speaks for an app is its deployer."""
    born = place.instance.born
    if born < app.deployer:
        return
    if born > app.deployer and app.removed:
        app.removed = False
        app.replicas.clear()  # those that still run are adopted
    app.deployer, app.lost, app.stopped = born, False, place.instance.silent


def passed(place: Place, phase: str, deployment: str, duration: float) -> None:
    """A part of a deployment took so long; what is not known, or of no deployment, is 0 or has no id."""
    if deployment and duration:
        place.delivery().phases[phase].observe(duration)


def _deployment(place: Place, identity: str, release: str) -> Deployment:
    """The record of a deployment, the last one of the app if no later one has taken its place."""
    app = place.delivery()
    speak(place, app)
    is_latest = place.is_latest("deployment")
    if known := _known(app, identity):
        return known
    fresh = Deployment(identity, release)
    app.history += [one for one in (app.deployment if is_latest else fresh,) if one]
    if is_latest:
        app.deployment = fresh
    del app.history[:-DEPLOYMENTS_KEPT]
    return fresh


def _known(app: App, identity: str) -> Deployment | None:
    return next((one for one in (app.deployment, *app.history) if one and one.id == identity), None)
