"""The events of replicas and their health, folded."""

from __future__ import annotations

from schemas import events as e
from schemas.events import UNSEEN
from services.metrics_gateway.fold.context import Place
from services.metrics_gateway.fold.deployment import passed, speak
from services.metrics_gateway.state.application import Exit, Phase, Replica
from services.metrics_gateway.state.port import count

"""The exit code of a replica whose end nobody saw."""


def replica_started(place: Place, event: e.ReplicaStarted) -> None:
    passed(place, "start", event.deployment, event.duration)
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
    passed(place, "check", event.deployment, event.duration)
    replica = _replica(place, event.replica)
    if replica:
        _enter(place, replica, "ready")


def replica_routed(place: Place, event: e.ReplicaRouted) -> None:
    passed(place, "route", event.deployment, event.duration)
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
    passed(place, "drain", event.deployment, event.duration)


def replica_retired(place: Place, event: e.ReplicaRetired) -> None:
    passed(place, "stop", event.deployment, event.duration)
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


def _how(event: e.ReplicaExited) -> str:
    if event.oom:
        return "oom"
    if event.code == UNSEEN:
        return "unseen"
    return "signal" if event.code < 0 else "error" if event.code else "finished"


def _replica(place: Place, identity: str) -> Replica | None:
    """A known replica; also one whose start may be in a batch that is missing."""
    replicas = place.delivery().replicas
    if place.gapped:
        return replicas.setdefault(identity, Replica(identity))
    return replicas.get(identity)


def _runs(place: Place, event: e.ReplicaStarted | e.ReplicaAdopted) -> Replica:
    app = place.delivery()
    speak(place, app)
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
