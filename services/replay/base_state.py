"""The state before a log that has lost its beginning, from the gateway's snapshots."""

from __future__ import annotations

from contextlib import aclosing

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream.log_reader import Stream, describe
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots.snapshot import Snapshot, SnapshotError, restore
from services.metrics_gateway.snapshots.store import Store
from services.metrics_gateway.state.state import State
from services.replay.log.source import from_stream
from services.replay.replay import View

SERVICE = "cli"


async def newest_base_state(bus: Bus, view: View) -> State | None:
    """Return the newest gateway state from which the requested moment can be replayed, if it is of use."""
    stream = await describe(bus)
    if stream.first <= 1 or view.buckets:
        return None
    return await _newest(bus, stream, view)


async def present_state(bus: Bus) -> State:
    """Return the state of all applications now: the newest snapshot, and the deployers' events after it.

    The events of proxies and of the health service after the snapshot are not in it. Without a snapshot, it is a fold
    of all events of deployers that the log holds.
    """
    stream = await describe(bus)
    state = await _newest(bus, stream, View()) or State()
    async with aclosing(from_stream(bus, state.position + 1, subjects.events("deployer", "*"))) as log:
        async for records in log:
            for record in records:
                apply(state, record.sequence, record.time, record.payload, record.subject, record.began)
    return state


async def _newest(bus: Bus, stream: Stream, view: View) -> State | None:
    logger = log.get(SERVICE)
    store = Store(Objects(bus, subjects.SNAPSHOTS), logger)
    try:
        found = await bus.unless_denied(f"OBJ_{subjects.SNAPSHOTS}", store.survey(stream))
    except BusError as error:
        logger.warning("cannot read the snapshots", reason=str(error))
        return None
    newest_first = sorted(found.values(), key=lambda one: one.position, reverse=True)
    states = (_restored(one) for one in newest_first if one.stream == stream.created)
    return next((one for one in states if one and goes_on_from(one, stream, view)), None)


def goes_on_from(state: State, stream: Stream, view: View) -> bool:
    """Return whether the log continues a state without a gap, and nothing before it is requested."""
    first, last = view.range.first, view.range.last
    is_too_late = last is not None and last.is_passed(state.position, state.time)
    is_inside = first is not None and first.is_reached(state.position, state.time)
    return stream.first - 1 <= state.position and not is_too_late and not is_inside


def _restored(snapshot: Snapshot) -> State | None:
    try:
        return restore(snapshot)
    except SnapshotError:
        return None
