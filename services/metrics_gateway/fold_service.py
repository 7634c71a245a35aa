"""The events of every service, folded: which instances run, and what ends with them."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.place import Place
from services.metrics_gateway.state import App, Heartbeat, Instance, State

ENDED_KEPT = 1000
"""So many instances that ended are remembered, to know their batches when one is repeated."""

_DEPLOYER = "deployer:"


def service_started(place: Place, event: e.ServiceStarted) -> None:
    instance = place.instance
    instance.unit = event.unit
    instance.version = event.version
    instance.pid = event.pid
    instance.parent = event.parent
    instance.started = event.time
    place.state.dropped.setdefault((instance.host, instance.service), 0)
    if event.unit.startswith(_DEPLOYER):
        key = (instance.host, event.unit.removeprefix(_DEPLOYER))
        place.state.apps[key] = place.state.apps.get(key) or place.state.new(App)
    if event.parent:
        _end_with_parent(place.state, instance)
    else:
        _take_over(place.state, instance)


def service_heartbeat(place: Place, event: e.ServiceHeartbeat) -> None:
    if place.is_latest("heartbeat"):
        place.instance.heartbeat = Heartbeat(event.time, event.rss, event.cpu, event.loop_lag)


def service_stopped(place: Place, event: e.ServiceStopped) -> None:
    place.instance.silent = True
    end(place.state, place.instance, event.reason)
    if not place.instance.missing:
        place.instance.listeners.clear()


def events_dropped(place: Place, event: e.EventsDropped) -> None:
    key = (place.host, place.instance.service)
    place.state.dropped[key] = place.state.dropped.get(key, 0) + event.count


def end(state: State, instance: Instance, reason: str) -> None:
    """The instance and its children are over: what they have open is not counted any more.

    Until its own last word it may still say how its connections ended: a proxy worker can outlive its master.
    """
    if instance.ended is not None:
        return
    instance.ended = reason
    if state.units.get((instance.host, instance.unit)) == instance.id:
        del state.units[instance.host, instance.unit]
    for child in list(state.instances.values()):
        if child.parent == instance.id:
            end(state, child, "its parent ended")
    _forget_oldest_ended(state)


def _take_over(state: State, instance: Instance) -> None:
    """A unit runs once on a host: of two instances, the one that appeared first in the log has ended."""
    key = (instance.host, instance.unit)
    other = state.instances.get(state.units.get(key, ""))
    if other and other.born > instance.born:
        end(state, instance, "replaced")
        return
    if other and other is not instance:
        end(state, other, "replaced")
    if instance.ended is None:
        state.units[key] = instance.id


def _end_with_parent(state: State, instance: Instance) -> None:
    parent = state.instances.get(instance.parent)
    if parent and parent.ended is not None:
        end(state, instance, "its parent ended")


def _forget_oldest_ended(state: State) -> None:
    ended = [instance for instance in state.instances.values() if instance.ended is not None]
    for instance in ended[:-ENDED_KEPT]:
        state.abandoned += len(instance.missing)
        del state.instances[instance.id]
