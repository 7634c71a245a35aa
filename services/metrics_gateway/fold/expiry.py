"""What time does to the state: who is silent for long is taken to be over, and what left is forgotten.

Time is that of the log: the seconds in which messages were stored. It stands still while nobody can write, so that
nobody is missed because the bus was away; and the same log always gives the same state, however fast it is read.
"""

from __future__ import annotations

from services.metrics_gateway.fold.instance import miss
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.instance import MISSED
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import PortKey, State

LONGEST_PAUSE = 10.0
"""Services say something every 5 seconds: a longer pause is one of the bus, and does not count beyond this."""

SILENCE = 60.0
"""An instance that was not heard for so long is taken to be over."""

KEPT = 600.0
"""For so long, a backend that has left and a replica that has exited keep their series."""

MOST_KEPT = 200
"""So many of them at most, for a port or an app."""

PERIOD = 15.0


def advance(state: State, time: float, forget: bool = True) -> None:
    """A message was stored at `time`, unix seconds on the server's clock, which may jump.

    `forget`: whether what left is forgotten.
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
    """Drop the backends that have left, first those that nothing has happened with for the longest time."""
    left = sorted((backend.seen, name) for name, backend in port.backends.items() if name not in used)
    for index, (seen, name) in enumerate(left):
        if clock - seen >= KEPT or index < len(left) - MOST_KEPT:
            del port.backends[name]


def _backends_in_use(state: State) -> dict[PortKey, set[str]]:
    """Those that take new connections or have open ones, also of an instance that was missed and may speak again."""
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
