"""The events of replicas and their health, folded."""

from __future__ import annotations

from schemas import events as e
from schemas.events import UNSEEN
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.fold.deployment import claim_app, observe_phase
from services.metrics_gateway.state.application import Exit, Phase, Replica
from services.metrics_gateway.state.port import count
from services.metrics_gateway.state.usage import Counts, Usage


def replica_started(context: BatchContext, event: e.ReplicaStarted) -> None:
    """Add a replica that starts, and count it as a restart of its slot if it replaces one that failed.

    Older programs do not say that: of theirs, each start outside a deployment counts, as it did then.
    """
    observe_phase(context, "start", event.deployment, event.duration)
    known = context.app_state().replicas.get(event.replica)
    if known and known.started is not None:
        known.restarts += 1
    _enter(context, _runs(context, event), "starting")
    replaces = not event.deployment if event.replaces is None else event.replaces
    if replaces and event.slot >= 0:
        starts = context.app_state().starts
        starts[event.slot] = starts.get(event.slot, 0) + 1


def replica_adopted(context: BatchContext, event: e.ReplicaAdopted) -> None:
    """Add a replica that a new deployer has adopted."""
    is_known = event.replica in context.app_state().replicas
    replica = _runs(context, event)
    if not is_known:
        _enter(context, replica, "ready")


def replica_ready(context: BatchContext, event: e.ReplicaReady) -> None:
    """Note that a replica is healthy and can take connections."""
    observe_phase(context, "check", event.deployment, event.duration)
    replica = _replica(context, event.replica)
    if replica:
        _enter(context, replica, "ready")


def replica_routed(context: BatchContext, event: e.ReplicaRouted) -> None:
    """Note that the proxy sends connections to a replica."""
    observe_phase(context, "route", event.deployment, event.duration)
    replica = _replica(context, event.replica)
    if replica:
        _enter(context, replica, "serving")
        if context.is_latest("deployed", event.replica):
            replica.deployed = event.time


def replica_draining(context: BatchContext, event: e.ReplicaDraining) -> None:
    """Note that a replica takes no new connections."""
    replica = _replica(context, event.replica)
    if replica:
        _enter(context, replica, "draining")


def replica_drained(context: BatchContext, event: e.ReplicaDrained) -> None:
    """Observe how long the drain took."""
    observe_phase(context, "drain", event.deployment, event.duration)


def replica_retired(context: BatchContext, event: e.ReplicaRetired) -> None:
    """Remove a replica that its deployer has stopped."""
    observe_phase(context, "stop", event.deployment, event.duration)
    replica = _replica(context, event.replica)
    if not replica or not context.is_latest("runs", event.replica):
        return
    replica.running, replica.exited = False, None
    if not context.gapped:
        del context.app_state().replicas[event.replica]


def replica_exited(context: BatchContext, event: e.ReplicaExited) -> None:
    """Note the exit of a replica that its deployer has not stopped."""
    app = context.app_state()
    count(app.exits, _how(event))
    replica = _replica(context, event.replica)
    if not replica:
        return
    ends = context.is_latest("runs", event.replica)
    if ends:
        replica.running, replica.exited = False, context.state.clock
    if context.is_latest("exit", event.replica) and (ends or replica.restarts):  # its engine started it again since
        replica.exit = Exit(event.code, event.oom, event.output)


def session_changed(_context: BatchContext, _event: e.SessionOpened | e.SessionClosed) -> None:
    """Change nothing: the recent events show who ran which command, and no metric counts it."""


def replicas_sampled(context: BatchContext, event: e.ReplicasSampled) -> None:
    """Add a sample of the resources that replicas use."""
    for name in event.cpu:
        replica = _replica(context, name)
        if replica:
            usage = replica.usage = replica.usage or Usage()
            counts = Counts(round(event.cpu[name] * 1e9), event.received.get(name, 0), event.sent.get(name, 0))
            usage.add(event.restarts.get(name, 0), counts)
            if context.is_latest("usage", name):
                usage.memory, usage.memory_limit = event.memory.get(name), event.memory_limit.get(name)
                usage.networked = name in event.received


def health_checked(context: BatchContext, event: e.HealthChecked) -> None:
    """Count a health check."""
    app = context.app_state()
    app.healthchecks += 1
    app.healthcheck_duration.observe(event.latency)
    if not event.ok:
        app.healthcheck_failures += 1


def health_changed(context: BatchContext, event: e.HealthChanged) -> None:
    """Keep the verdict on a replica."""
    replica = context.app_state().replicas.get(event.replica)
    if replica and context.is_latest("health", event.replica):
        replica.healthy = event.healthy


def forget_ended_replicas(context: BatchContext) -> None:
    """Drop replicas that do not run: no missing batch can contain events of them any more."""
    for app in {key[0] for key in context.instance.positions}:
        known = context.state.apps.get((context.host, app))
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


def _replica(context: BatchContext, identity: str) -> Replica | None:
    """Return a known replica, or a new one if a missing batch may hold its start."""
    replicas = context.app_state().replicas
    if context.gapped:
        return replicas.setdefault(identity, Replica(identity))
    return replicas.get(identity)


def _runs(context: BatchContext, event: e.ReplicaStarted | e.ReplicaAdopted) -> Replica:
    app = context.app_state()
    claim_app(context, app)
    replica = app.replicas.setdefault(event.replica, Replica(event.replica))
    if context.is_latest("runs", event.replica):
        replica.running, replica.exited = True, None
    if context.is_latest("begun", event.replica):
        replica.release = event.release
        replica.address = event.address
        replica.pid = event.pid
        replica.slot = event.slot
        if isinstance(event, e.ReplicaStarted):
            replica.started = event.time
    return replica


def _enter(context: BatchContext, replica: Replica, phase: Phase) -> None:
    if context.is_latest("phase", replica.id):
        replica.phase = phase
