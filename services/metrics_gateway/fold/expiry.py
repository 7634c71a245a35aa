"""The effect of time on the state: a silent instance is taken to have ended, and what left long ago is dropped.

Time is that of the log: the seconds in which messages were stored. It stands still while the bus is away, so that no
instance counts as silent because of that. The same log always gives the same state, however fast it is read.
"""

from __future__ import annotations

from services.metrics_gateway.fold.instance import miss
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.instance import MISSED
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import PortKey, State

LONGEST_PAUSE = 10.0
"""Seconds. Services publish every 5 seconds, so a longer pause is one of the bus, and only this much of it counts."""

SILENCE = 60.0
"""Seconds without a message after which an instance is taken to have ended."""

KEPT = 600.0
"""Seconds for which a backend that has left, or a replica that has exited, keeps its series."""

MOST_KEPT = 200
"""Backends of a port, or replicas of an app, that are kept so at most."""

PERIOD = 15.0
"""Seconds between two looks: each walks the whole state, which takes milliseconds with many backends."""


def advance(state: State, time: float, forget: bool = True) -> None:
    """Advance the clock of the state to a message that was stored at `time`.

    `time` is in unix seconds on the server's clock, which may jump. `forget`: whether to drop backends and replicas
    that left long ago.
    """
    if state.last_stored and time > state.last_stored:
        state.clock += min(time - state.last_stored, LONGEST_PAUSE)
    state.last_stored = time
    if state.clock >= state.next_expiry:
        state.next_expiry = state.clock + PERIOD
        _miss_the_silent(state)
        if forget:
            _forget_backends(state)
            for app in state.apps.values():
                _forget_exited(app, state.clock)


def _miss_the_silent(state: State) -> None:
    for instance in list(state.running()):
        if state.clock - instance.heard >= SILENCE:
            miss(state, instance)


def _forget_backends(state: State) -> None:
    used = _backends_in_use(state)
    for key, port in state.ports.items():
        _forget(port, used.get(key, set()), state.clock)


def _forget(port: Port, used: set[str], clock: float) -> None:
    """Drop backends that have left, longest unused first."""
    left = sorted((backend.seen, name) for name, backend in port.backends.items() if name not in used)
    for index, (seen, name) in enumerate(left):
        if clock - seen >= KEPT or index < len(left) - MOST_KEPT:
            del port.backends[name]


def _backends_in_use(state: State) -> dict[PortKey, set[str]]:
    """Return the backends that take or hold connections, also of silent instances that may speak again."""
    used: dict[PortKey, set[str]] = {}
    for instance in state.instances.values():
        if instance.ended not in (None, MISSED):
            continue
        for (app, port), listener in instance.listeners.items():
            names = used.setdefault((instance.host, app, port), set())
            names.update(listener.backends, listener.carried)
    return used


def _forget_exited(app: App, clock: float) -> None:
    exited = sorted((one.exited, one.id) for one in app.replicas.values() if one.exited is not None)
    for index, (moment, identity) in enumerate(exited):
        if clock - moment >= KEPT or index < len(exited) - MOST_KEPT:
            del app.replicas[identity]
