"""The events of deployments, folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas import events as e
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.state.application import DEPLOYMENTS_KEPT, App, Deployment, Pin, Problem
from services.metrics_gateway.state.port import count

_IS_RECORDED: dict[type[e.Event], Callable[[Deployment], bool]] = {
    e.DeploymentStarted: lambda known: known.started is not None,
    e.DeploymentSucceeded: lambda known: known.outcome != "running",
    e.DeploymentFailed: lambda known: known.outcome != "running",
    e.DeploymentRolledBack: lambda known: known.rolled_back_to is not None,
}
"""For each kind of event that a deployer repeats after a crash: whether the deployment has such an event already."""


def is_repeated(context: BatchContext, event: Any) -> bool:
    """Return whether a deployer repeats, after a crash, an event that the deployment already has."""
    is_recorded = _IS_RECORDED.get(type(event))
    if is_recorded is None:
        return False
    known = _known(context.app_state(), event.deployment)
    return known is not None and is_recorded(known)


def deployer_started(context: BatchContext, name: str) -> None:
    """Note that a deployer of this app runs. It does not know yet whether the registry fails."""
    app = context.app_state(name)
    claim_app(context, app)
    app.desired = app.desired or 0  # until it says how many it wants
    if context.is_latest_of(name, "registry"):
        app.registry_error = None
        app.streak = 0


def application_removed(context: BatchContext, event: e.ApplicationRemoved) -> None:
    """Note that the app was removed, unless a newer deployer has it."""
    app = context.app_state()
    claim_app(context, app)
    if context.is_latest("removed") and context.instance.ordinal == app.deployer:
        app.removed = True


def scale_set(context: BatchContext, event: e.ScaleSet) -> None:
    """Set the number of replicas that the deployer keeps running. A removed app that has one again is back."""
    if _knows_replicas(context) and context.is_latest("desired"):
        context.app_state().desired = event.replicas
    claim_app(context, context.app_state())
    if context.is_latest("removed") and context.instance.ordinal == context.app_state().deployer:
        context.app_state().removed = False


def release_found(context: BatchContext, event: e.ReleaseFound) -> None:
    """Note the registry that offers releases."""
    if context.is_latest("found"):
        context.app_state().registry = event.registry


def release_waiting(context: BatchContext, _event: e.ReleaseWaiting) -> None:
    """Note the application; the event itself is kept among the recent ones."""
    context.app_state()


def registry_failed(context: BatchContext, event: e.RegistryFailed) -> None:
    """Count a failure of the registry."""
    app = context.app_state()
    app.registry_failures += 1
    if event.streak <= 1 and context.is_latest("registry began"):
        app.registry_began = event.time
        if app.registry_error:
            app.registry_error = Problem(event.time, app.registry_error.reason)
    if context.is_latest("registry"):
        app.registry_error = Problem(app.registry_began, event.reason)
        app.streak = event.streak


def registry_recovered(context: BatchContext, event: e.RegistryRecovered) -> None:
    """End the streak of registry failures."""
    if context.is_latest("registry"):
        app = context.app_state()
        app.registry_error, app.streak = None, 0


def image_pulled(context: BatchContext, event: e.ImagePulled) -> None:
    """Observe how long the pull took."""
    observe_phase(context, "pull", event.deployment, event.duration)


def deployment_started(context: BatchContext, event: e.DeploymentStarted) -> None:
    """Record the beginning of a deployment."""
    observe_phase(context, "resolve", event.deployment, event.resolved)
    if _knows_replicas(context) and context.is_latest("desired"):
        context.app_state().desired = event.replicas
    deployment = _deployment(context, event.deployment, event.release)
    deployment.previous = event.previous
    deployment.by = event.by
    deployment.strategy = event.strategy
    deployment.replicas = event.replicas
    deployment.started = event.time


def _knows_replicas(context: BatchContext) -> bool:
    """Return False if replicas of the deployer may run whose start has left the log.

    Compared with the replicas that are known, the wanted number would then report replicas as missing that run.
    """
    return context.instance.first <= 1


def deployment_succeeded(context: BatchContext, event: e.DeploymentSucceeded) -> None:
    """Record the success of a deployment. Its release is the current one now."""
    app = context.app_state()
    app.deployments += 1
    if context.is_latest("release"):
        app.release = event.release
    deployment = _deployment(context, event.deployment, event.release)
    deployment.outcome = "succeeded"
    if not _knows_replicas(context) and deployment.replicas and context.is_latest("desired"):
        app.desired = deployment.replicas  # all replicas that run have started since
    deployment.ended = event.time
    deployment.duration = event.duration
    app.deployment_duration.observe(event.duration)


def deployment_failed(context: BatchContext, event: e.DeploymentFailed) -> None:
    """Record the failure of a deployment, with its phase and reason."""
    app = context.app_state()
    app.deployment_errors += 1
    count(app.failures, event.phase)
    deployment = _deployment(context, event.deployment, event.release)
    deployment.outcome = "failed"
    deployment.ended = event.time
    deployment.duration = event.duration
    deployment.failed_phase = event.phase
    deployment.reason = event.reason
    deployment.output = event.output
    app.deployment_duration.observe(event.duration)


def deployment_rolled_back(context: BatchContext, event: e.DeploymentRolledBack) -> None:
    """Record a rollback. The release that it returned to is the current one."""
    context.app_state().rollbacks += 1
    if context.is_latest("release"):
        context.app_state().release = event.to
    deployment = _deployment(context, event.deployment, event.release)
    deployment.rolled_back_to = event.to


def release_quarantined(context: BatchContext, event: e.ReleaseQuarantined) -> None:
    """Add a release to the quarantine."""
    if context.is_latest("quarantine", event.release):
        app = context.app_state()
        app.quarantined[event.release] = event.reason
        app.quarantined_since[event.release] = event.time


def quarantine_lifted(context: BatchContext, event: e.QuarantineLifted) -> None:
    """Take a release out of quarantine."""
    if context.is_latest("quarantine", event.release):
        app = context.app_state()
        app.quarantined.pop(event.release, None)
        app.quarantined_since.pop(event.release, None)


def deployments_paused(context: BatchContext, event: e.DeploymentsPaused) -> None:
    """Note that deployments are paused."""
    if context.is_latest("paused"):
        app = context.app_state()
        app.paused, app.paused_since = True, event.time


def deployments_resumed(context: BatchContext, event: e.DeploymentsResumed) -> None:
    """Note that deployments are neither paused nor pinned any more."""
    app = context.app_state()
    if context.is_latest("paused"):
        app.paused, app.paused_since = False, None
    if context.is_latest("pinned"):
        app.pinned = None


def release_pinned(context: BatchContext, event: e.ReleasePinned) -> None:
    """Keep the pin, or note that it ended."""
    if context.is_latest("pinned"):
        context.app_state().pinned = Pin(event.time, event.release, event.by) if event.release else None


def claim_app(context: BatchContext, app: App) -> None:
    """Make the batch's instance the deployer of an app, unless a newer instance is."""
    ordinal = context.instance.ordinal
    if ordinal < app.deployer:
        return
    if ordinal > app.deployer and app.removed:
        app.removed = False
        app.replicas.clear()  # the new deployer adopts replicas that still run
    app.deployer, app.lost, app.stopped = ordinal, False, context.instance.stop_reported


def observe_phase(context: BatchContext, phase: str, deployment: str, duration: float) -> None:
    """Observe how long a phase took. An unknown duration is 0; outside a deployment there is no id."""
    if deployment and duration:
        context.app_state().phases[phase].observe(duration)


def _deployment(context: BatchContext, identity: str, release: str) -> Deployment:
    """Return the record of a deployment. A new one is the app's last, unless a later batch has set another."""
    app = context.app_state()
    claim_app(context, app)
    is_latest = context.is_latest("deployment")
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
