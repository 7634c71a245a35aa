"""A recorded event log: a file of batches, each preceded by its length as four bytes, big endian.

`python -m tests.metrics_gateway.recording` writes what the fold makes of `recorded.log` to `recorded.prom` and
`recorded.snapshot`, and the scenario below to `recorded.log` if there is none. The log stays as it is when the scenario
changes: old logs must fold on as they did.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas import codec, subjects
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.state import State

LOG = Path(__file__).with_name("recorded.log")
GOLDEN = Path(__file__).with_name("recorded.prom")
SNAPSHOT = Path(__file__).with_name("recorded.snapshot")
STREAM = "2026-01-01T00:00:00+00:00"

HOST = "web-1"
APP = "shop"
PORT = 8080
START = 1_700_000_000.0


def write(path: Path, payloads: list[bytes]) -> None:
    """Record the payloads of a log."""
    path.write_bytes(b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads))


def read(path: Path) -> Iterator[bytes]:
    """The payloads of a recorded log, in order."""
    data = memoryview(path.read_bytes())
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        yield bytes(data[4:end])
        data = data[end:]


def subject(payload: bytes) -> str:
    """Where a message of the recorded log was published."""
    try:
        batch = codec.decode(payload).batch
    except msgspec.MsgspecError:
        return subjects.events("proxy", APP)
    return subjects.events(batch.service, batch.app)


def folded(payloads: list[bytes]) -> State:
    """What the fold makes of a log whose messages were stored a tenth of a second apart."""
    state = State()
    for position, payload in enumerate(payloads, 1):
        apply(state, position, START + position / 10, payload)
    return state


def exposition(state: State, accept: str = "") -> str:
    """The text of /metrics two seconds after the newest message."""
    moment = Measurement(state, state.time + 2, "0.1.0", True, {"success": 3, "failure": 1}, state.time - 3)
    resource = {"service.name": "longshore", "service.version": "0.1.0", "host.name": HOST}
    return Exporter(lambda: moment, resource).expose(accept, "").body.decode()


class Recorder:
    """One instance that publishes batches."""

    def __init__(self, log: list[bytes], service: str, instance: str) -> None:
        self._log = log
        self._service = service
        self.instance = instance
        self.sequence = 0

    def batch(self, *events: e.AnyEvent, app: str = APP) -> bytes:
        """The next batch of the instance, not yet published."""
        self.sequence += 1
        return codec.encode(Batch(self._service, HOST, app, self.instance, self.sequence, list(events)))

    def publish(self, *events: e.AnyEvent, app: str = APP) -> None:
        self._log.append(self.batch(*events, app=app))


class Scenario:
    """Two releases behind one port with two workers, a third release that fails, and what can go wrong on the way."""

    def __init__(self, seed: int = 7) -> None:
        self.log: list[bytes] = []
        self._random = random.Random(seed)
        self._now = START
        self._connections = 0

    def play(self) -> list[bytes]:
        """The log of the whole story."""
        deployer = self._start("deployer", f"deployer:{APP}")
        health = self._start("health", "health")
        master = self._start("proxy", f"proxy:{PORT}")
        master.publish(e.ListenerOpened(self._tick(), PORT, "0.0.0.0"))
        workers = [self._worker(master, f"worker-{n}") for n in (1, 2)]
        first = self._deploy(deployer, health, workers, "1.0.0", "", "v1")
        self._serve(workers, first, 40)
        second = self._deploy(deployer, health, workers, "1.1.0", "1.0.0", "v2")
        self._replace(deployer, workers, first, second)
        self._serve(workers, second, 40)
        self._fail(deployer, health, "1.2.0", "1.1.0")
        self._kill(master, workers[0])
        workers[0] = self._worker(master, "worker-3")
        self._join(workers[0], second)
        self._serve(workers, second, 40)
        self._restart_deployer(second)
        self._noise(workers[1])
        return self.log

    def _tick(self) -> float:
        self._now += self._random.uniform(0.01, 0.2)
        return round(self._now, 6)

    def _start(self, service: str, unit: str, name: str = "") -> Recorder:
        recorder = Recorder(self.log, service, name or f"{service}-1")
        recorder.publish(e.ServiceStarted(self._tick(), unit, "0.1.0", 100), app="_")
        recorder.publish(e.ServiceHeartbeat(self._tick(), rss=30 << 20, cpu=0.25, loop_lag=0.001), app="_")
        return recorder

    def _worker(self, master: Recorder, name: str) -> Recorder:
        recorder = Recorder(self.log, "proxy", name)
        recorder.publish(e.ServiceStarted(self._tick(), "proxy-worker", "0.1.0", 101, master.instance))
        return recorder

    def _deploy(
        self, deployer: Recorder, health: Recorder, workers: list[Recorder], release: str, previous: str, name: str
    ) -> list[str]:
        deployment = f"deployment-{release}"
        replicas = [f"{APP}-{name}-{n}" for n in (1, 2)]
        began = self._tick()
        deployer.publish(
            e.ReleaseFound(began, release, "sha256:0", "dir:///srv/releases"),
            e.DeploymentStarted(
                began,
                deployment,
                release,
                previous=previous,
                by="registry",
                strategy="rolling",
                replicas=2,
                trace="0" * 32,
            ),
            e.ImagePulled(self._tick(), deployment, release, 0.4),
        )
        for replica in replicas:
            deployer.publish(
                e.ReplicaStarted(self._tick(), deployment, replica, release=release, address="127.0.0.1:4000", pid=200)
            )
            health.publish(
                e.HealthChecked(self._tick(), replica, False, 0.001, "connection refused"),
                e.HealthChecked(self._tick(), replica, True, 0.002),
                e.HealthChanged(self._tick(), replica, True),
            )
            deployer.publish(e.ReplicaReady(self._tick(), deployment, replica, 0.3))
            deployer.publish(e.ReplicaRouted(self._tick(), deployment, replica))
        for worker in workers:
            self._join(worker, replicas)
        deployer.publish(e.DeploymentSucceeded(self._tick(), deployment, release, round(self._now - began, 6)))
        return replicas

    def _join(self, worker: Recorder, replicas: list[str]) -> None:
        worker.publish(*(e.BackendJoined(self._tick(), PORT, replica, "127.0.0.1:4000") for replica in replicas))

    def _replace(self, deployer: Recorder, workers: list[Recorder], old: list[str], new: list[str]) -> None:
        for replica in old:
            for worker in workers:
                worker.publish(e.BackendLeft(self._tick(), PORT, replica))
            deployer.publish(e.ReplicaDraining(self._tick(), "deployment-1.1.0", replica))
            workers[0].publish(e.BackendDrained(self._tick(), PORT, replica, 0, 0.2))
            deployer.publish(e.ReplicaRetired(self._tick(), "deployment-1.1.0", replica, reason="replaced"))
        workers[1].publish(e.BackendEjected(self._tick(), PORT, new[0], "refused"))
        workers[1].publish(e.BackendJoined(self._tick(), PORT, new[0], "127.0.0.1:4000"))

    def _fail(self, deployer: Recorder, health: Recorder, release: str, previous: str) -> None:
        deployment, replica = f"deployment-{release}", f"{APP}-v3-1"
        deployer.publish(
            e.DeploymentStarted(
                self._tick(),
                deployment,
                release,
                previous=previous,
                by="registry",
                strategy="rolling",
                replicas=2,
                trace="1" * 32,
            ),
            e.ReplicaStarted(self._tick(), deployment, replica, release=release, address="127.0.0.1:4003", pid=300),
        )
        health.publish(*(e.HealthChecked(self._tick(), replica, False, 1.0, "timeout") for _ in range(5)))
        deployer.publish(
            e.ReplicaExited(self._tick(), replica, release, 1),
            e.DeploymentFailed(self._tick(), deployment, release, phase="check", reason="exited with 1", duration=12.5),
            e.DeploymentRolledBack(self._tick(), deployment, release, previous),
            e.ReleaseQuarantined(self._tick(), release, "exited with 1"),
        )

    def _serve(self, workers: list[Recorder], replicas: list[str], batches: int) -> None:
        """Traffic; now and then a batch comes again, or after the one that follows it."""
        for n in range(batches):
            worker = workers[n % len(workers)]
            payload = worker.batch(*self._traffic(self._random.choice(replicas)))
            late = self._random.random() < 0.15
            if late:
                worker.publish(*self._traffic(self._random.choice(replicas)))
            self.log.append(payload)
            if self._random.random() < 0.1:
                self.log.append(payload)

    def _traffic(self, backend: str) -> Iterator[e.AnyEvent]:
        for _ in range(self._random.randint(3, 9)):
            self._connections += 1
            number, luck = self._connections, self._random.random()
            yield e.ConnectionAccepted(self._tick(), number, PORT)
            if luck < 0.05:
                yield e.DialFailed(self._tick(), number, PORT, backend=backend, latency=0.75, reason="timeout")
                yield e.ConnectionRefused(self._tick(), number, PORT, reason="dial_failed", duration=0.8)
                continue
            yield e.ConnectionEstablished(
                self._tick(), number, PORT, backend=backend, latency=self._seconds(0.02), attempts=1
            )
            if luck > 0.9:
                yield e.ConnectionProgressed(self._tick(), number, PORT, bytes_in=1000, bytes_out=65536)
            if luck < 0.97:
                duration = self._seconds(3)
                yield e.ConnectionClosed(
                    self._tick(),
                    number,
                    PORT,
                    backend=backend,
                    bytes_in=2000,
                    bytes_out=131072,
                    duration=duration,
                    reason="eof",
                )

    def _seconds(self, most: float) -> float:
        return round(self._random.uniform(0, most), 6)

    def _kill(self, master: Recorder, worker: Recorder) -> None:
        """A worker dies with connections open; its last batch but one is lost."""
        worker.batch(*self._traffic("lost"))
        worker.publish(e.ConnectionAccepted(self._tick(), 1_000_000, PORT))
        worker.publish(e.ServiceStopped(self._tick(), "killed by signal 9"))
        master.publish(e.EventsDropped(self._tick(), 7), app="_")

    def _restart_deployer(self, replicas: list[str]) -> None:
        """The deployer was killed; its successor finds the replicas, one of them twice."""
        deployer = self._start("deployer", f"deployer:{APP}", "deployer-2")
        for replica in (*replicas, replicas[0]):
            deployer.publish(
                e.ReplicaAdopted(self._tick(), replica=replica, release="1.1.0", address="127.0.0.1:4000", pid=200)
            )

    def _noise(self, worker: Recorder) -> None:
        """An event of a newer version, a value that cannot be, and a message that is no batch."""
        worker.sequence += 1
        unknown = [9999, self._tick(), "?"]
        known = [12, self._tick(), 1_000_001, PORT]
        head = ["proxy", HOST, APP, worker.instance, worker.sequence]
        self.log.append(codec._encoder.encode([*head, [unknown, known]]))
        worker.publish(
            e.ConnectionEstablished(self._tick(), 1_000_001, PORT, backend="x", latency=float("nan"), attempts=1)
        )
        self.log.append(b"\xc1 no batch")


if __name__ == "__main__":
    if not LOG.exists():
        write(LOG, Scenario().play())
    GOLDEN.write_text(exposition(folded(list(read(LOG)))))
    SNAPSHOT.write_bytes(snapshot.encode(folded(list(read(LOG))), STREAM))
