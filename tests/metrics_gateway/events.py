"""Short ways to say events to a fold."""

from __future__ import annotations

from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import apply_batch
from services.metrics_gateway.instruments.instrument import backends, open_connections
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import State

KEY = ("host", "web", 80)


class Log:
    """A state, and the batches of several instances on their way into it."""

    def __init__(self) -> None:
        self.state = State()
        self._sequences: dict[str, int] = {}

    def say(self, instance: str, *events: e.AnyEvent, app: str = "web", sequence: int = 0) -> bool:
        number = sequence or self._sequences.get(instance, 0) + 1
        self._sequences[instance] = number
        return apply_batch(self.state, Batch("proxy", "host", app, instance, number, list(events)))

    @property
    def port(self) -> Port:
        return self.state.ports[KEY]

    @property
    def app(self) -> App:
        return self.state.apps["host", "web"]

    @property
    def active(self) -> int:
        return open_connections(self.state)[KEY]

    @property
    def backends(self) -> set[str]:
        return set(backends(self.state)[KEY])


def accepted(connection: int) -> e.ConnectionAccepted:
    return e.ConnectionAccepted(1.0, connection, 80)


def established(connection: int, latency: float = 0.004) -> e.ConnectionEstablished:
    return e.ConnectionEstablished(1.0, connection, 80, backend="b", latency=latency, attempts=1)


def progressed(connection: int, bytes_in: int, bytes_out: int) -> e.ConnectionProgressed:
    return e.ConnectionProgressed(1.0, connection, 80, bytes_in=bytes_in, bytes_out=bytes_out)


def closed(connection: int, bytes_in: int = 10, bytes_out: int = 20, duration: float = 0.5) -> e.ConnectionClosed:
    return e.ConnectionClosed(
        1.0, connection, 80, backend="b", bytes_in=bytes_in, bytes_out=bytes_out, duration=duration, reason="eof"
    )


def started(unit: str, parent: str = "") -> e.ServiceStarted:
    return e.ServiceStarted(1.0, unit, "1", 1, parent)
