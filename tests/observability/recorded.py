"""Series as a store would have them: what the gateway shows of an event log, scraped every fifteen seconds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from schemas import events as e
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.fold.expiry import LONGEST_PAUSE
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.events import started
from tests.metrics_gateway.timeline import Timeline

SCRAPE = 15
BEAT = 5
MiB = 1 << 20
Series = dict[str, list[str]]


class Log(Timeline):
    """One that keeps what was stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[tuple[int, float, bytes]] = []

    def store(self, payload: bytes) -> None:
        super().store(payload)
        self.stored.append((self.state.position, self.now, payload))


class Recording:
    """Hosts that share a bus, gateways that fold its log, and a Prometheus that scrapes them.

    `dead` are gateways that do not answer.
    """

    def __init__(self, *gateways: str) -> None:
        self.log = Log()
        self.series: Series = {}
        self.is_bus_away = False
        self.dead: set[str] = set()
        self.spooled = 0
        self.pending = 0
        self._gateways = gateways or ("web-1",)
        self._units: list[str] = []
        self._scrapes = 0
        self._numbers = itertools.count(1)
        self._wall = self.log.now
        for gateway in self._gateways:
            self.start("gateway", gateway, "gateway")

    def start(self, service: str, host: str, unit: str, life: str = "") -> str:
        """A service starts; the instance."""
        instance = f"{unit}@{host}{life}"
        self.log.say(instance, started(unit), app="_", service=service, host=host)
        self._units.append(instance)
        return instance

    def end(self, *instances: str) -> None:
        """They fall silent without a word."""
        self._units = [one for one in self._units if one not in instances]

    def say(self, instance: str, *events: e.AnyEvent, app: str = "shop") -> None:
        self.log.say(instance, *events, app=app)

    def application(self, app: str, host: str, port: int, replicas: int = 2) -> tuple[str, str]:
        """An application with replicas that serve: its deployer and its proxy."""
        deployer = self.start("deployer", host, f"deployer:{app}")
        proxy = self.start("proxy", host, f"proxy:{port}")
        self.serve(deployer, proxy, app, port, replicas)
        return deployer, proxy

    def serve(self, deployer: str, proxy: str, app: str, port: int, replicas: int = 2) -> None:
        """They say what is true now."""
        self.say(deployer, e.ScaleSet(1.0, replicas), app=app)
        self.say(proxy, e.ListenerOpened(1.0, port, "0.0.0.0"), app=app)
        for slot in range(replicas):
            self.say(
                deployer,
                e.ReplicaStarted(
                    1.0, "d1", f"{app}-{slot}", release="1.0", address=":1", pid=7, slot=slot, duration=0.1
                ),
                app=app,
            )
            self.say(proxy, e.BackendJoined(1.0, port, f"{app}-{slot}", ":1"), app=app)

    def connections(self, proxy: str, port: int, good: int, bad: int = 0, latency: float = 0.004) -> None:
        """Connections that come and go."""
        events: list[e.AnyEvent] = []
        for number in itertools.islice(self._numbers, good):
            events.append(e.ConnectionAccepted(1.0, number, port))
            events.append(e.ConnectionEstablished(1.0, number, port, backend="shop-0", latency=latency, attempts=1))
            events.append(
                e.ConnectionClosed(
                    1.0, number, port, backend="shop-0", bytes_in=1, bytes_out=1, duration=0.1, reason="eof"
                )
            )
        for number in itertools.islice(self._numbers, bad):
            events.append(e.ConnectionAccepted(1.0, number, port))
            events.append(e.ConnectionRefused(1.0, number, port, reason="dial_failed", duration=0.2))
        self.say(proxy, *events)

    def minutes(self, count: float, each_scrape: Callable[[], None] = lambda: None) -> None:
        """So much time goes by: services write every 5 seconds, a scrape is made every 15."""
        for _ in range(int(count * 60 / SCRAPE)):
            for _ in range(SCRAPE // BEAT):
                self._wall += BEAT
                if not self.is_bus_away:
                    self._beat()
            each_scrape()
            self._scrape()

    def unseen(self, seconds: float) -> None:
        """So much time goes by, and the store keeps nothing of it."""
        for _ in range(int(seconds / LONGEST_PAUSE)):
            self._wall += LONGEST_PAUSE
            self._beat()

    def fold_again(self, after: int) -> None:
        """The gateway begins from nothing, with what the log has after this position."""
        self.log.state = State()
        for position, time, payload in self.log.stored[after:]:
            apply(self.log.state, position, time, payload)

    def _beat(self) -> None:
        self.log.now = self._wall
        beat = e.ServiceHeartbeat(
            1.0, rss=1 << 20, cpu=1.5, loop_lag=0.001, spool_batches=3 if self.spooled else 0, spool_bytes=self.spooled
        )
        for unit in self._units:
            self.log.say(unit, beat, app="_")

    def _scrape(self) -> None:
        for gateway in self._gateways:
            labels = f'instance="{gateway}:17539",job="longshore"'
            is_up = gateway not in self.dead
            self._note(f"up{{{labels}}}", str(int(is_up)))
            if is_up:
                for name, value in self._exposition(gateway):
                    inner = name.partition("{")[2].removesuffix("}")
                    self._note(f"{name.partition('{')[0]}{{{','.join(filter(None, [inner, labels]))}}}", value)
        self._scrapes += 1
        for values in self.series.values():
            if len(values) < self._scrapes:
                values.append("_" if values[-1] in ("_", "stale") else "stale")

    def _note(self, name: str, value: str) -> None:
        self.series.setdefault(name, ["_"] * self._scrapes).append(value)

    def _exposition(self, gateway: str) -> list[tuple[str, str]]:
        state = self.log.state
        moment = Measurement(state, self._wall, "0.1.0", not self.is_bus_away, {}, self._wall - 3, self.pending)
        text = Exporter(lambda: moment, {"service.name": "longshore"}).expose("", "").body.decode()
        return re.findall(r"^([^#\s].*) (\S+)$", text, re.MULTILINE)


def input_series(recording: Recording, names: Sequence[str]) -> list[dict[str, str]]:
    """The series of these metrics as promtool takes them."""
    return [
        {"series": name, "values": " ".join(values)}
        for name, values in recording.series.items()
        if name.partition("{")[0] in names
    ]
