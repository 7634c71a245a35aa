"""The events of deployments, replicas and their health, folded."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.app import App, Exit
from services.metrics_gateway.place import Place
from services.metrics_gateway.port import count
from services.metrics_gateway.state import DEPLOYMENTS_KEPT, Deployment, Phase, Replica

UNSEEN = -1000
"""The exit code of a replica whose end nobody saw."""


def deployer_started(place: Place, name: str) -> None:
    """A deployer of this app runs; it does not know yet whether the registry fails."""
    app = place.delivery(name)
    _speak(place, app)
    if place.is_latest_of(name, "registry"):
        app.streak = 0


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
    _passed(place, "pull", event.deployment, event.duration)


def deployment_started(place: Place, event: e.DeploymentStarted) -> None:
    _passed(place, "resolve", event.deployment, event.resolved)
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


def replica_started(place: Place, event: e.ReplicaStarted) -> None:
    _passed(place, "start", event.deployment, event.duration)
    _enter(place, _runs(place, event), "starting")
    if not event.deployment and event.slot >= 0:
        starts = place.delivery().starts
        starts[event.slot] = starts.get(event.slot, 0) + 1


def replica_adopted(place: Place, event: e.ReplicaAdopted) -> None:
    is_known = event.replica in place.delivery().replicas
    replica = _runs(place, event)
    if not is_known:
        _enter(place, replica, "ready")


def replica_ready(place: Place, event: e.ReplicaReady) -> None:
    _passed(place, "check", event.deployment, event.duration)
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "ready")


def replica_routed(place: Place, event: e.ReplicaRouted) -> None:
    _passed(place, "route", event.deployment, event.duration)
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "serving")
        if place.is_latest("deployed", event.replica):
            replica.deployed = event.time


def replica_draining(place: Place, event: e.ReplicaDraining) -> None:
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "draining")


def replica_drained(place: Place, event: e.ReplicaDrained) -> None:
    _passed(place, "drain", event.deployment, event.duration)


def replica_retired(place: Place, event: e.ReplicaRetired) -> None:
    _passed(place, "stop", event.deployment, event.duration)
    replica = _replica(place, event.replica)
    if not replica or not place.is_latest("runs", event.replica):
        return
    replica.running, replica.exited = False, None
    if not place.gapped:
        del place.delivery().replicas[event.replica]


def replica_exited(place: Place, event: e.ReplicaExited) -> None:
    app = place.delivery()
    count(app.exits, _how(event))
    replica = _replica(place, event.replica)
    if replica and place.is_latest("runs", event.replica):
        replica.running, replica.exited = False, place.state.clock
        replica.exit = Exit(event.code, event.oom)


def health_checked(place: Place, event: e.HealthChecked) -> None:
    app = place.delivery()
    app.healthchecks += 1
    app.healthcheck_duration.observe(event.latency)
    if not event.ok:
        app.healthcheck_failures += 1


def health_changed(place: Place, event: e.HealthChanged) -> None:
    replica = place.delivery().replicas.get(event.replica)
    if replica and place.is_latest("health", event.replica):
        replica.healthy = event.healthy


def forget_ended_replicas(place: Place) -> None:
    """Nothing is missing any more that could speak of a replica which does not run."""
    for app in {key[0] for key in place.instance.positions}:
        known = place.state.apps.get((place.host, app))
        if known:
            is_over = (one.id for one in known.replicas.values() if not one.running and one.exited is None)
            for identity in list(is_over):
                del known.replicas[identity]


def _speak(place: Place, app: App) -> None:
    """The newest instance that speaks for an app is its deployer."""
    if place.instance.born >= app.deployer:
        app.deployer, app.lost = place.instance.born, False


def _passed(place: Place, phase: str, deployment: str, duration: float) -> None:
    """A part of a deployment took so long; what is not known, or of no deployment, is 0 or has no id."""
    if deployment and duration:
        place.delivery().phases[phase].observe(duration)


def _how(event: e.ReplicaExited) -> str:
    if event.oom:
        return "oom"
    if event.code == UNSEEN:
        return "unseen"
    return "signal" if event.code < 0 else "error" if event.code else "finished"


def _deployment(place: Place, identity: str, release: str) -> Deployment:
    """The record of a deployment, the last one of the app if no later one has taken its place."""
    app = place.delivery()
    _speak(place, app)
    is_latest = place.is_latest("deployment")
    for known in (app.deployment, *app.history):
        if known and known.id == identity:
            return known
    fresh = Deployment(identity, release)
    app.history += [one for one in (app.deployment if is_latest else fresh,) if one]
    if is_latest:
        app.deployment = fresh
    del app.history[:-DEPLOYMENTS_KEPT]
    return fresh


def _replica(place: Place, identity: str) -> Replica | None:
    """A known replica; also one whose start may be in a batch that is missing."""
    replicas = place.delivery().replicas
    if place.gapped:
        return replicas.setdefault(identity, Replica(identity))
    return replicas.get(identity)


def _runs(place: Place, event: e.ReplicaStarted | e.ReplicaAdopted) -> Replica:
    app = place.delivery()
    _speak(place, app)
    replica = app.replicas.setdefault(event.replica, Replica(event.replica))
    if place.is_latest("runs", event.replica):
        replica.running, replica.exited = True, None
    if place.is_latest("begun", event.replica):
        replica.release = event.release
        replica.address = event.address
        replica.pid = event.pid
        replica.slot = event.slot
        if isinstance(event, e.ReplicaStarted):
            replica.started = event.time
    return replica


def _enter(place: Place, replica: Replica, phase: Phase) -> None:
    if place.is_latest("phase", replica.id):
        replica.phase = phase
