"""Each process and the bus killed at random under traffic: at the end /metrics says what was counted outside.

LONGSHORE_TEST_CHAOS: for how many seconds, 30 unless it is set. Proxy workers have a run of their own, a third as
long: the connections of a killed worker break. The supervisor is killed in test_kill.py.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e import origin
from tests.support.harness import Server, runs, wait_for, workers

SECONDS = float(os.environ.get("LONGSHORE_TEST_CHAOS", "30"))
VICTIMS = ("bus", "gateway", "health", "deployer", "proxy")
CLIENTS = 6
REPLICAS = 2
SETTLED = 120.0
OPTIONS = ("--replicas", str(REPLICAS), "--workers", "2", "--health-path", "/probe")
HEAD = len(b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n")

pytestmark = pytest.mark.timeout(SECONDS + 600)


class Clients:
    """Threads that open one connection after the other, with a few requests on each, and count everything.

    `opened` counts every connection that was made, `connections` those that ended as they should.
    """

    def __init__(self, port: int) -> None:
        self.opened = 0
        self.connections = 0
        self.sent = 0
        self.received = 0
        self.broken: list[str] = []
        self._port = port
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stopping.wait(0.01):
            try:
                sent, received = self._connect(chance)
            except (OSError, ValueError) as error:
                self.broken.append(f"{time.time():.3f} {error!r}")
                continue
            with self._lock:
                self.connections += 1
                self.sent += sent
                self.received += received

    def _connect(self, chance: random.Random) -> tuple[int, int]:
        """One connection to its end; the bytes that went each way."""
        sent = received = 0
        requests, pause = (1, 0.0) if chance.random() < 0.95 else (chance.randrange(2, 20), 0.2)
        with socket.create_connection(("127.0.0.1", self._port), 60) as sock:
            with self._lock:
                self.opened += 1
            for _ in range(requests):
                body = bytes(chance.randrange(2000))
                request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                sock.sendall(request)
                sent += len(request)
                received += _read(sock, 16 + len(body))
                time.sleep(pause)
            sock.shutdown(socket.SHUT_WR)
            if sock.recv(1):
                raise ValueError("more than was asked for")
        return sent, received


def _read(sock: socket.socket, body: int) -> int:
    """Read an answer whose body has this size; its bytes."""
    size = HEAD + len(str(body)) + body
    left = size
    while left:
        data = sock.recv(left)
        if not data:
            raise ValueError("the answer was cut")
        left -= len(data)
    return size


class Chaos:
    """Kills, and publishes a release whenever the one before serves."""

    def __init__(self, one: Server, folder: Path, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.releases = 1
        self._one = one
        self._folder = folder
        self._chance = random.Random(seed)

    def run(self, seconds: float) -> None:
        publish_at = 0.0
        for _ in _until(time.monotonic() + seconds):
            self._kill()
            time.sleep(self._chance.uniform(0.2, 2.0))
            if time.monotonic() > publish_at and self._one.serves(self.release):
                self.publish()
                publish_at = time.monotonic() + 8

    @property
    def release(self) -> str:
        return f"1.0.{self.releases}"

    def publish(self) -> None:
        self.releases += 1
        origin.publish(self._one.registry, self.release, self._folder)

    def _kill(self) -> None:
        """One process, or two at once."""
        victims = self._chance.sample(VICTIMS, self._chance.choice((1, 1, 2)))
        before = wait_for("all services are there", self._all)
        for victim in victims:
            os.kill(before[victim], signal.SIGKILL)
            self.kills[victim] += 1
        wait_for("the killed are gone", lambda: not any(runs(before[victim]) for victim in victims))

    def _all(self) -> dict[str, int]:
        children = self._one.children()
        return children if set(VICTIMS) <= set(children) and all(map(runs, children.values())) else {}


def _until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield


def test_metrics_equal_the_counts_from_outside_after_chaos(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    folder.mkdir()
    one = Server(tmp_path, *OPTIONS)
    origin.publish(one.registry, "1.0.1", folder)
    one.start()
    try:
        chaos = Chaos(one, folder, seed=int(SECONDS))
        wait_for("the first release serves", lambda: one.serves(chaos.release), 60)
        with Clients(one.port) as clients:
            chaos.run(SECONDS)
            wait_for("the last release serves", lambda: one.serves(chaos.release), SETTLED)
        print(f"{chaos.kills} {chaos.releases} releases, {clients.connections} connections, broken {clients.broken}")
        assert clients.broken == [], around(one, clients.broken[0])
        check(one, clients, chaos, folder)
    finally:
        one.stop()
        one.end_replicas()


def test_every_connection_of_workers_that_are_killed_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    folder.mkdir()
    one = Server(tmp_path, *OPTIONS)
    origin.publish(one.registry, "1.0.1", folder)
    one.start()
    try:
        wait_for("the release serves", lambda: one.serves("1.0.1"), 60)
        with Clients(one.port) as clients:
            kills = kill_workers(one, SECONDS / 3, random.Random(SECONDS))
        print(f"{kills} workers killed, {clients.opened} connections, {len(clients.broken)} broken")
        assert kills
        missed = kills  # a worker may die in the moment between its accept and its first word
        found = wait_for(
            "all ended connections are counted",
            lambda: _settled(one.metrics(), clients.opened - missed),
            SETTLED,
        )
        assert clients.opened - missed <= found["dewy_proxy_connections_total"] <= clients.opened
        assert found["longshore_gateway_chain_breaks_total"] == found["longshore_events_dropped_total"] == 0
        verified = one.verb("verify")
        assert verified.returncode == 0, verified.stderr
    finally:
        one.stop()
        one.end_replicas()


def kill_workers(one: Server, seconds: float, chance: random.Random) -> int:
    """Kill one worker after the other; how many."""
    kills, proxy = 0, one.children()["proxy"]
    for _ in _until(time.monotonic() + seconds):
        victims = wait_for("both workers are there", lambda: _both(workers(proxy)))
        os.kill(chance.choice(victims), signal.SIGKILL)
        kills += 1
        time.sleep(chance.uniform(0.2, 1.5))
    return kills


def _both(found: list[int]) -> list[int]:
    return found if len(found) == 2 and all(map(runs, found)) else []


def _settled(found: dict[str, float], least: int) -> dict[str, float]:
    is_settled = found.get("dewy_proxy_connections_total", 0) >= least and found["dewy_proxy_connections_active"] == 0
    return found if is_settled else {}


def around(one: Server, broken: str) -> str:
    """What the services said in the seconds before a connection broke."""
    moment = float(broken.split()[0])
    first, last = (datetime.fromtimestamp(moment + offset, UTC).isoformat() for offset in (-15, 1))
    return "\n".join(line for line in one.log.read_text().splitlines() if first <= line[:26] <= last)


def check(one: Server, clients: Clients, chaos: Chaos, folder: Path) -> None:
    expected = {
        "dewy_proxy_connections_total": clients.connections,
        "dewy_proxy_connections_active": 0,
        "dewy_proxy_bytes_transferred_total": clients.sent + clients.received,
        "dewy_proxy_errors_total": 0,
        "dewy_proxy_connection_duration_seconds_count": clients.connections,
        "dewy_deployments_total": chaos.releases,
        "dewy_container_replicas": REPLICAS,
        "longshore_gateway_chain_breaks_total": 0,
        "longshore_events_dropped_total": 0,
    }
    assert origin.served(folder) == (clients.sent, clients.received)
    found: dict[str, float] = {}

    def is_equal() -> bool:
        found.update(one.metrics())
        return all(found.get(name) == value for name, value in expected.items())

    try:
        wait_for("the numbers are equal", is_equal, SETTLED)
    except AssertionError:
        assert {name: found.get(name) for name in expected} == expected
    answered = origin.probes(folder)
    passed = wait_for("a scrape", one.metrics)
    counted = passed["dewy_healthchecks_total"] - passed["dewy_healthchecks_failures_total"]
    later = origin.probes(folder)
    under_way = 2 * REPLICAS * (1 + chaos.kills["health"])
    assert answered - under_way <= counted <= later
    verified = one.verb("verify")
    assert verified.returncode == 0, verified.stderr
