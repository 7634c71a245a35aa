"""The fold: it applies one message of the log after the other to the state.

It does no I/O and reads no clock: the same log gives the same state. Each instance numbers its batches from 1. The fold
skips a batch that it has applied before. It applies a batch that comes after a later one of its instance, with the same
result as if the batch had come in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from schemas import chain, codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold import deployment as deployer
from services.metrics_gateway.fold import expiry, proxy, replica, traces
from services.metrics_gateway.fold import instance as service
from services.metrics_gateway.fold.ages import may_have_left
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.fold.recent import DETAILS, keep_recent
from services.metrics_gateway.state.instance import MISSED, Instance, Service
from services.metrics_gateway.state.state import State

HORIZON = 1024
"""The fold waits for a missing batch until its instance is so many batches further."""

LEAP = 2**32
"""An instance never skips so many batches: at a hundred a second, these take more than a year."""

Handler = Callable[[BatchContext, Any], None]

HANDLERS: dict[type[e.Event], Handler] = {
    e.ServiceStarted: service.service_started,
    e.ServiceHeartbeat: service.service_heartbeat,
    e.ServiceStopped: service.service_stopped,
    e.EventsDropped: service.events_dropped,
    e.ListenerOpened: proxy.listener_opened,
    e.ListenerClosed: proxy.listener_closed,
    e.ConnectionAccepted: proxy.accepted,
    e.ConnectionEstablished: proxy.established,
    e.ConnectionProgressed: proxy.progressed,
    e.ConnectionClosed: proxy.closed,
    e.ConnectionRefused: proxy.refused,
    e.DialFailed: proxy.dial_failed,
    e.BackendJoined: proxy.backend_joined,
    e.BackendLeft: proxy.backend_left,
    e.BackendEjected: proxy.backend_ejected,
    e.BackendDrained: proxy.backend_drained,
    e.ConnectionTraced: traces.connection_traced,
    e.ReleaseFound: deployer.release_found,
    e.DeploymentStarted: deployer.deployment_started,
    e.ImagePulled: deployer.image_pulled,
    e.ReplicaStarted: replica.replica_started,
    e.ReplicaReady: replica.replica_ready,
    e.ReplicaRetired: replica.replica_retired,
    e.ReplicaExited: replica.replica_exited,
    e.DeploymentSucceeded: deployer.deployment_succeeded,
    e.DeploymentFailed: deployer.deployment_failed,
    e.DeploymentRolledBack: deployer.deployment_rolled_back,
    e.ReleaseQuarantined: deployer.release_quarantined,
    e.QuarantineLifted: deployer.quarantine_lifted,
    e.RegistryFailed: deployer.registry_failed,
    e.ReplicaAdopted: replica.replica_adopted,
    e.ReplicaRouted: replica.replica_routed,
    e.ReplicaDraining: replica.replica_draining,
    e.DeploymentsPaused: deployer.deployments_paused,
    e.DeploymentsResumed: deployer.deployments_resumed,
    e.RegistryRecovered: deployer.registry_recovered,
    e.ReplicaDrained: replica.replica_drained,
    e.ScaleSet: deployer.scale_set,
    e.CommandAnswered: traces.command_answered,
    e.HealthChecked: replica.health_checked,
    e.HealthChanged: replica.health_changed,
    e.ApplicationRemoved: deployer.application_removed,
    e.SessionOpened: replica.session_changed,
    e.SessionClosed: replica.session_changed,
    e.ReplicasSampled: replica.replicas_sampled,
    e.ReleasePinned: deployer.release_pinned,
    e.ReleaseWaiting: deployer.release_waiting,
}


def _dispatch(context: BatchContext, event: e.AnyEvent) -> None:
    """Apply an event that is not a detail, unless the deployer has recorded it before."""
    if deployer.is_repeated(context, event):
        return
    HANDLERS[type(event)](context, event)
    traces.extend_trace(context, event)
    keep_recent(context, event)


STEPS: dict[type[e.Event], Handler] = {
    kind: handler if kind in DETAILS else _dispatch for kind, handler in HANDLERS.items()
}
"""The function that applies each kind of event. Nearly all events are details, so those save the call of _dispatch."""


def apply(
    state: State,
    position: int,
    time: float,
    payload: bytes,
    subject: str = "",
    began: float = 0.0,
    forget: bool = True,
) -> None:
    """Apply the message at stream sequence `position`, stored at `time` (unix seconds) and published on `subject`.

    A message that is not a batch, or that cannot be of the service that it names, is counted and changes nothing else.
    `began`: when the log began from which the message was imported, if earlier messages had left that log (unix
    seconds). `forget`: whether to drop the counts of backends and replicas that left long ago, as a gateway does.
    """
    state.position = position
    state.first = state.first or position
    state.began = state.began or time
    state.time = max(state.time, time)
    expiry.advance(state, time, forget)
    try:
        decoded = codec.decode(payload, subject)
    except codec.MisfitError:
        state.misfits += 1
        return
    except msgspec.MsgspecError:
        state.undecodable += 1
        return
    if apply_batch(state, decoded.batch, payload, began):
        state.unknown += decoded.unknown
        state.malformed += decoded.malformed
        _measure_lag(state, decoded.batch, time)


def apply_batch(state: State, batch: Batch, payload: bytes = b"", began: float = 0.0) -> bool:
    """Apply a batch. Return False if it was applied before, or if its instance cannot have published it."""
    known = state.instances.get(batch.instance)
    if _is_misfit(known, batch):
        state.misfits += 1
        return False
    instance = known or _appeared(state, batch, began)
    instance.heard = state.clock
    if instance.ended == MISSED:
        service.resume(state, instance)
    was_missing = bool(instance.missing)
    if not _admit(state, instance, batch):
        return False
    if payload:
        _check_chain(state, instance, batch, payload)
    context = BatchContext(state, instance, batch, was_missing or bool(instance.missing))
    steps = STEPS
    for event in batch.events:
        steps[type(event)](context, event)
    state.events += len(batch.events)
    if context.gapped and not instance.missing:
        _settle(context)
    return True


def _is_misfit(known: Instance | None, batch: Batch) -> bool:
    """Return whether a batch uses the id of another instance, or a sequence number that it cannot have."""
    if known and (known.service, known.host) != (batch.service, batch.host):
        return True
    return batch.sequence > (known.last if known else 0) + LEAP


def _appeared(state: State, batch: Batch, began: float) -> Instance:
    """Add a new instance. Batches that may have left the log before it was read are awaited, but not missing."""
    state.last_ordinal += 1
    instance = Instance(batch.instance, batch.service, batch.host, state.last_ordinal)
    if may_have_left(batch, state.last_stored, max(began, state.began if state.first > 1 else 0.0)):
        instance.first = batch.sequence
    state.instances[batch.instance] = instance
    return instance


def _admit(state: State, instance: Instance, batch: Batch) -> bool:
    """Return whether the batch is new. Note which batches are missing."""
    sequence, before = batch.sequence, instance.last
    if sequence <= before:
        return _fill_gap(state, instance, batch)
    instance.last = sequence
    if instance.missing:
        _give_up_the_oldest(state, instance, before)
    if sequence > before + 1:
        awaited = range(max(before + 1, sequence - HORIZON), sequence)
        if awaited.start > before + 1 and instance.leap is None:
            instance.leap = before, instance.abandoned
        _abandon(state, instance, max(0, awaited.start - max(before + 1, instance.first)))
        instance.missing.update(awaited)
    return True


def _abandon(state: State, instance: Instance, batches: int) -> None:
    """Count batches that the fold no longer waits for."""
    state.abandoned += batches
    instance.abandoned += batches


def _fill_gap(state: State, instance: Instance, batch: Batch) -> bool:
    """Return whether the batch is one of those that were missing."""
    if batch.sequence in instance.missing:
        state.late += 1
        instance.missing.remove(batch.sequence)
        return True
    if instance.leap and _is_next(instance, batch, instance.leap[0]):
        _abandon(state, instance, instance.leap[1] - instance.abandoned)
        state.chain_breaks += 1
        instance.missing.clear()
        instance.last, instance.leap = batch.sequence, None
        return True
    state.repeated += 1
    return False


def _is_next(instance: Instance, batch: Batch, before: int) -> bool:
    """Return whether it is the next batch after `before`, which a batch far ahead followed: that one was forged.

    The digest of the batch before proves it. So no forged number can turn later batches of the instance into repeats.
    """
    if batch.sequence != before + 1 or not batch.previous:
        return False
    return instance.links.get(batch.sequence) == batch.previous


def _measure_lag(state: State, batch: Batch, stored: float) -> None:
    """Observe the time from the newest event of the batch to its storage. The clocks of two hosts may differ."""
    known = state.services.get(batch.service)
    if known is None:
        known = state.services[batch.service] = state.new(Service)
    if batch.events:
        known.lag.observe(stored - batch.events[-1].time)


def _check_chain(state: State, instance: Instance, batch: Batch, payload: bytes) -> None:
    """Count a batch that does not fit its neighbours. Batches that will never come are not neighbours."""
    if not chain.fits(instance.links, batch, payload):
        state.chain_breaks += 1
    if len(instance.links) > 1 and not instance.missing:
        instance.links = {instance.last + 1: instance.links[instance.last + 1]}


def _give_up_the_oldest(state: State, instance: Instance, before: int) -> None:
    """Stop waiting for batches that were within the horizon of the batch `before`, and are not any more."""
    for sequence in range(before - HORIZON, min(before, instance.last - HORIZON)):
        if sequence in instance.missing:
            instance.missing.remove(sequence)
            _abandon(state, instance, 1)


def _settle(context: BatchContext) -> None:
    """Drop what was kept for late batches: no batch of the instance is missing any more."""
    instance = context.instance
    replica.forget_ended_replicas(context)
    traces.settle(context)
    instance.positions.clear()
    instance.leap = None
    for listener in instance.listeners.values():
        listener.closed.clear()
    if instance.stop_reported:
        instance.listeners.clear()
