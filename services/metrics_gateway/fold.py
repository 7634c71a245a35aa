"""The fold: one message of the log after the other changes the state. No I/O, no clock; the same log, the same state.

Each instance numbers its batches from 1. A batch that was applied before is skipped; one that comes late, after a
later one of its instance, is applied, and the result is the same as if it had come in time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from schemas import chain, codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway import bounds, upkeep
from services.metrics_gateway import fold_deployer as deployer
from services.metrics_gateway import fold_proxy as proxy
from services.metrics_gateway import fold_replica as replica
from services.metrics_gateway import fold_service as service
from services.metrics_gateway.ages import may_have_left
from services.metrics_gateway.instance import MISSED, Service
from services.metrics_gateway.place import Place
from services.metrics_gateway.recent import remembered
from services.metrics_gateway.state import Instance, State
from services.metrics_gateway.traces import fold as traces

HORIZON = 1024
"""A batch that is missing is waited for until its instance is so many batches further."""

Handler = Callable[[Place, Any], None]


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
}
HANDLERS = {
    kind: bounds.checked(kind, deployer.told_once(kind, remembered(kind, traces.traced(kind, handler))))
    for kind, handler in HANDLERS.items()
}


def apply(state: State, position: int, time: float, payload: bytes, began: float = 0.0, forget: bool = True) -> None:
    """Apply the message at stream sequence `position`, stored at `time`. One that is no batch is counted.

    `began`: when the log began that it was imported from, if that had lost what was before (unix seconds). `forget`:
    whether the counts of what has left for long are given up, as a gateway does.
    """
    state.position = position
    state.first = state.first or position
    state.began = state.began or time
    state.time = max(state.time, time)
    upkeep.advance(state, time, forget)
    try:
        decoded = codec.decode(payload)
    except msgspec.MsgspecError:
        state.undecodable += 1
        return
    if apply_batch(state, decoded.batch, began):
        state.unknown += decoded.unknown
        _measure_lag(state, decoded.batch, time)
        _check_chain(state, decoded.batch, payload)


def apply_batch(state: State, batch: Batch, began: float = 0.0) -> bool:
    """Apply a batch. False if it was applied before."""
    instance = state.instances.get(batch.instance) or _appeared(state, batch, began)
    instance.heard = state.clock
    if instance.ended == MISSED:
        service.come_back(state, instance)
    was_missing = bool(instance.missing)
    if not _admit(state, instance, batch.sequence):
        return False
    place = Place(state, instance, batch, was_missing or bool(instance.missing))
    _dispatch(place, batch.events)
    state.events += len(batch.events)
    if place.gapped and not instance.missing:
        _settle(place)
    return True


def _dispatch(place: Place, events: list[Any]) -> None:
    handlers = HANDLERS
    for event in events:
        try:
            handlers[type(event)](place, event)
        except (ValueError, OverflowError):
            place.state.malformed += 1
            place.state.events -= 1


def _appeared(state: State, batch: Batch, began: float) -> Instance:
    """A new instance. What may have left the log before it was read is waited for, but not called missing."""
    state.born += 1
    instance = Instance(batch.instance, batch.service, batch.host, state.born)
    if may_have_left(batch, state.told, max(began, state.began if state.first > 1 else 0.0)):
        instance.first = batch.sequence
    state.instances[batch.instance] = instance
    return instance


def _admit(state: State, instance: Instance, sequence: int) -> bool:
    """Whether the batch is new; keeps account of what is missing."""
    if sequence <= instance.last:
        return _fill_gap(state, instance, sequence)
    if sequence > instance.last + 1:
        awaited = range(max(instance.last + 1, sequence - HORIZON), sequence)
        state.abandoned += max(0, awaited.start - max(instance.last + 1, instance.first))
        instance.missing.update(awaited)
    instance.last = sequence
    if instance.missing:
        _give_up_the_oldest(state, instance)
    return True


def _fill_gap(state: State, instance: Instance, sequence: int) -> bool:
    if sequence not in instance.missing:
        state.repeated += 1
        return False
    state.late += 1
    instance.missing.remove(sequence)
    return True


def _measure_lag(state: State, batch: Batch, stored: float) -> None:
    """How long the newest event of the batch took into the log; clocks of two hosts may disagree."""
    known = state.services.get(batch.service)
    if known is None:
        known = state.services[batch.service] = state.new(Service)
    if batch.events:
        lag = stored - batch.events[-1].time
        with contextlib.suppress(ValueError, OverflowError):
            known.lag.observe(0.0 if lag < 0 else lag)


def _check_chain(state: State, batch: Batch, payload: bytes) -> None:
    """Count a batch that does not fit its neighbours; those that will not come any more are no neighbours."""
    instance = state.instances.get(batch.instance)
    if instance is None:
        return
    if not chain.fits(instance.links, batch, payload):
        state.chain_breaks += 1
    if len(instance.links) > 1 and not instance.missing:
        instance.links = {instance.last + 1: instance.links[instance.last + 1]}


def _give_up_the_oldest(state: State, instance: Instance) -> None:
    awaited = {sequence for sequence in instance.missing if sequence >= instance.last - HORIZON}
    state.abandoned += instance.missed(instance.missing) - instance.missed(awaited)
    instance.missing = awaited


def _settle(place: Place) -> None:
    """No batch of the instance is missing: forget what was kept for one that comes late."""
    instance = place.instance
    replica.forget_ended_replicas(place)
    traces.settle(place)
    instance.positions.clear()
    for listener in instance.listeners.values():
        listener.closed.clear()
    if instance.silent:
        instance.listeners.clear()
