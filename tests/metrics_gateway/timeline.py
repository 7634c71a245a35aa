"""A log whose messages are stored at chosen times."""

from __future__ import annotations

from collections import Counter

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.instruments.instrument import backends, open_connections
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.events import KEY

STREAM = "2026-01-01T00:00:00+00:00"
BEAT = e.ServiceHeartbeat(1.0, rss=1 << 20, cpu=1.5, loop_lag=0.001)


class Timeline:
    """A state, and a clock for what is stored next."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.state = State()
        self.now = now
        self._sequences: Counter[str] = Counter()
        self._services: dict[str, str] = {}
        self._hosts: dict[str, str] = {}

    def say(self, instance: str, *events: e.AnyEvent, app: str = "web", service: str = "", host: str = "host") -> None:
        """Store a batch now; service and host of an instance are those of its first batch."""
        self._sequences[instance] += 1
        place = self._hosts.setdefault(instance, host)
        one = self._services.setdefault(instance, service or "proxy")
        batch = Batch(one, place, app, instance, self._sequences[instance], list(events))
        self.store(codec.encode(batch))

    def store(self, payload: bytes) -> None:
        apply(self.state, self.state.position + 1, self.now, payload)

    def beat(self, seconds: float, *instances: str) -> None:
        """So much time goes by, in which only these say that they live, every five seconds."""
        for _ in range(int(seconds / 5)):
            self.now += 5
            for instance in instances:
                self.say(instance, BEAT, app="_")

    def restart(self) -> None:
        """A gateway goes on from a snapshot."""
        saved = snapshot.encode(self.state, STREAM)
        self.state = snapshot.restore(snapshot.decode(saved, STREAM, self.state.position))

    @property
    def live(self) -> set[str]:
        return {instance.id for instance in self.state.running()}

    @property
    def active(self) -> int:
        return open_connections(self.state)[KEY]

    @property
    def backends(self) -> set[str]:
        return set(backends(self.state)[KEY])

    @property
    def port(self) -> Port:
        return self.state.ports[KEY]

    @property
    def app(self) -> App:
        return self.state.apps["host", "web"]
