"""The events of deployments, replicas and their health, folded."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.place import Place
from services.metrics_gateway.state import DEPLOYMENTS_KEPT, Deployment, Phase, Replica


def deployment_started(place: Place, event: e.DeploymentStarted) -> None:
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
    deployment = _deployment(place, event.deployment, event.release)
    deployment.outcome = "failed"
    deployment.ended = event.time
    deployment.duration = event.duration
    deployment.failed_phase = event.phase
    deployment.reason = event.reason
    app.deployment_duration.observe(event.duration)


def deployment_rolled_back(place: Place, event: e.DeploymentRolledBack) -> None:
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
    replica = _runs(place, event)
    replica.started = event.time
    _enter(place, replica, "starting")


def replica_adopted(place: Place, event: e.ReplicaAdopted) -> None:
    is_known = event.replica in place.delivery().replicas
    replica = _runs(place, event)
    if not is_known:
        _enter(place, replica, "ready")


def replica_ready(place: Place, event: e.ReplicaReady) -> None:
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "ready")


def replica_routed(place: Place, event: e.ReplicaRouted) -> None:
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "serving")
        if place.is_latest("deployed", event.replica):
            replica.deployed = event.time


def replica_draining(place: Place, event: e.ReplicaDraining) -> None:
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "draining")


def replica_ended(place: Place, event: e.ReplicaRetired | e.ReplicaExited) -> None:
    replica = _replica(place, event.replica)
    if not replica or not place.is_latest("runs", event.replica):
        return
    replica.running = False
    if not place.gapped:
        del place.delivery().replicas[event.replica]


def health_checked(place: Place, event: e.HealthChecked) -> None:
    app = place.delivery()
    app.healthchecks += 1
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
            known.replicas = {replica.id: replica for replica in known.running}


def _deployment(place: Place, identity: str, release: str) -> Deployment:
    """The record of a deployment, the last one of the app if no later one has taken its place."""
    app = place.delivery()
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
    replica = place.delivery().replicas.setdefault(event.replica, Replica(event.replica))
    if place.is_latest("runs", event.replica):
        replica.running = True
        replica.release = event.release
        replica.address = event.address
        replica.pid = event.pid
    return replica


def _enter(place: Place, replica: Replica, phase: Phase) -> None:
    if place.is_latest("phase", replica.id):
        replica.phase = phase
