"""The events of every service, folded: which instances run, and what ends with them."""

from __future__ import annotations

from schemas import events as e
from schemas.subjects import DEPLOYER_UNIT
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.fold.deployment import deployer_started
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.instance import MISSED, Heartbeat, Instance
from services.metrics_gateway.state.state import State

ENDED_KEPT = 1000
"""Ended instances that the state keeps, to recognise a batch of them that is repeated."""


def service_started(context: BatchContext, event: e.ServiceStarted) -> None:
    """Register an instance with the facts about its process."""
    instance = context.instance
    instance.unit = event.unit
    instance.version = event.version
    instance.pid = event.pid
    instance.parent = event.parent
    instance.started = event.time
    context.state.dropped.setdefault((instance.host, instance.service), 0)
    if event.unit.startswith(DEPLOYER_UNIT):
        deployer_started(context, event.unit.removeprefix(DEPLOYER_UNIT))
    _register(context.state, instance)


def service_heartbeat(context: BatchContext, event: e.ServiceHeartbeat) -> None:
    """Keep the newest heartbeat of an instance."""
    if context.is_latest("heartbeat"):
        context.instance.heartbeat = Heartbeat(
            event.time, event.rss, event.cpu, event.loop_lag, event.spool_batches, event.spool_bytes
        )


def service_stopped(context: BatchContext, event: e.ServiceStopped) -> None:
    """End an instance that reports its own stop."""
    context.instance.stop_reported = True
    for app in _apps_of(context.state, context.instance):
        app.stopped = True
    end(context.state, context.instance, event.reason)
    if not context.instance.missing:
        context.instance.listeners.clear()


def events_dropped(context: BatchContext, event: e.EventsDropped) -> None:
    """Count events that a service had to drop."""
    key = (context.host, context.instance.service)
    context.state.dropped[key] = context.state.dropped.get(key, 0) + event.count


def end(state: State, instance: Instance, reason: str) -> None:
    """End an instance and its children: what they have open no longer counts.

    An instance whose stop has not been reported may still say how its connections ended: a proxy worker can outlive its
    master.
    """
    if instance.ended is not None and instance.ended != MISSED:
        return
    _unregister(state, instance, reason)
    for child in state.children.pop(instance.id, ()):
        if child in state.instances:
            end(state, state.instances[child], "its parent ended")
    _forget_oldest_ended(state)


def miss(state: State, instance: Instance) -> None:
    """End an instance that was silent for long. Its next message undoes this."""
    _unregister(state, instance, MISSED)
    for app in _apps_of(state, instance):
        app.lost = True
    _forget_oldest_ended(state)


def resume(state: State, instance: Instance) -> None:
    """Resume an instance that was silent: it has published again."""
    instance.ended = None
    del state.ended[instance.id]
    for app in _apps_of(state, instance):
        app.lost = False
    _register(state, instance)


def _apps_of(state: State, instance: Instance) -> list[App]:
    """Return the apps whose deployer the instance is."""
    return [app for (host, _), app in state.apps.items() if host == instance.host and app.deployer == instance.ordinal]


def _register(state: State, instance: Instance) -> None:
    if instance.parent:
        _end_with_parent(state, instance)
    elif instance.unit:
        _replace_unit(state, instance)


def _unregister(state: State, instance: Instance, reason: str) -> None:
    instance.ended = reason
    state.ended.pop(instance.id, None)
    state.ended[instance.id] = None
    if state.units.get((instance.host, instance.unit)) == instance.id:
        del state.units[instance.host, instance.unit]


def _replace_unit(state: State, instance: Instance) -> None:
    """End the older of two instances of a unit (by their order in the log): a unit runs once on a host."""
    key = (instance.host, instance.unit)
    other = state.instances.get(state.units.get(key, ""))
    if other and other.ordinal > instance.ordinal:
        end(state, instance, "replaced")
        return
    if other and other is not instance:
        end(state, other, "replaced")
    if instance.ended is None:
        state.units[key] = instance.id


def _end_with_parent(state: State, instance: Instance) -> None:
    parent = state.instances.get(instance.parent)
    if parent and parent.ended not in (None, MISSED):
        end(state, instance, "its parent ended")
    else:
        state.children.setdefault(instance.parent, {})[instance.id] = None


def _forget_oldest_ended(state: State) -> None:
    while len(state.ended) > ENDED_KEPT:
        _forget(state, state.instances[next(iter(state.ended))])


def _forget(state: State, instance: Instance) -> None:
    if instance.heartbeat:
        key = (instance.service, instance.unit, instance.host)
        state.spent[key] = state.spent.get(key, 0) + instance.heartbeat.nanoseconds
    state.abandoned += instance.missed(instance.missing)
    siblings = state.children.get(instance.parent, {})
    siblings.pop(instance.id, None)
    if not siblings:
        state.children.pop(instance.parent, None)
    state.children.pop(instance.id, None)
    del state.ended[instance.id], state.instances[instance.id]
