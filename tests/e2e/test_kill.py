"""kill -9 of each process in turn while traffic runs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from services.demo import releases
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from tests.support.harness import Server, Traffic, runs, wait_for, workers

OF_REPLICAS = ("longshore_replica_cpu_", "longshore_replica_network_")
"""Their series end with a replica, and the release after it has others."""
OF_THE_GATEWAY = {instrument.prometheus for instrument in INSTRUMENTS if instrument.of_process}
"""What a gateway process says of itself: it begins at 0 with each process, as Prometheus expects of a counter."""


def _sums(one: Server) -> dict[str, float]:
    return wait_for("a scrape", one.metrics)


@pytest.mark.parametrize("service", ["bus", "gateway", "health", "deployer", "proxy"])
def test_a_killed_service_comes_back_without_a_refused_or_broken_request(
    server: Callable[..., Server], service: str
) -> None:
    one = server("--replicas", "2", "--workers", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    replicas = _replicas(one)
    with Traffic(one.port) as traffic:
        wait_for("traffic is counted", lambda: one.metrics().get("dewy_proxy_connections_total", 0) > 50)
        before = _sums(one)
        killed = one.children()[service]
        os.kill(killed, signal.SIGKILL)
        wait_for("it comes back", lambda: one.children().get(service, killed) != killed)
        traffic.wait_for_more(50)
        wait_for("the same two replicas serve", lambda: _replicas(one) == replicas and len(replicas) == 2)
        releases.publish(one.registry, releases.SECOND)
        wait_for("a new release still rolls out", lambda: one.serves(releases.SECOND), 60)
    assert traffic.refused == 0
    assert traffic.broken == []
    after = _sums(one)
    going_back = {
        name: (before[name], after.get(name, 0))
        for name in before
        if name.endswith("_total")
        and name not in OF_THE_GATEWAY
        and not name.startswith(OF_REPLICAS)
        and after.get(name, 0) < before[name]
    }
    assert going_back == {}
    counted = wait_for("every connection is counted", lambda: _counted(one, traffic.answered))
    assert counted == traffic.answered
    wait_for("no connection is left open", lambda: one.metrics().get("dewy_proxy_connections_active") == 0)


def _replicas(one: Server) -> set[str]:
    return {replica["id"] for replica in one.status().get("replicas", [])}


def _counted(one: Server, expected: int) -> float:
    total = one.metrics().get("dewy_proxy_connections_total", 0)
    return total if total >= expected else 0


def test_a_killed_worker_cuts_only_its_own_connections(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2", "--workers", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    victim, other = workers(one.children()["proxy"])
    with ExitStack() as stack, Traffic(one.port) as traffic:
        held = {}
        for _ in range(20):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=30))
            held[client.getsockname()[1]] = client
        wait_for("all are accepted", lambda: held.keys() <= _clients(victim, one.port) | _clients(other, one.port))
        lost = held.keys() & _clients(victim, one.port)
        kept = held.keys() & _clients(other, one.port)
        assert lost
        assert kept
        os.kill(victim, signal.SIGKILL)
        for port in lost:
            assert _rest(held[port]) == b""
        traffic.wait_for_more(50)
        for port in kept:
            held[port].sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 200 " in _rest(held[port])
    assert traffic.refused == 0
    assert len(traffic.broken) <= 3  # each of its clients had one request under way, at most
    wait_for("no connection is left open", lambda: one.metrics().get("dewy_proxy_connections_active") == 0)


def _clients(worker: int, port: int) -> set[int]:
    """The ports of the clients whose connections to `port` a worker holds (proc_net(5))."""
    held = set()
    for descriptor in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(OSError):
            held.add(str(descriptor.readlink()))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in map(str.split, Path(table).read_text().splitlines()[1:]):
            if f"socket:[{row[9]}]" in held and row[1].endswith(f":{port:04X}") and row[3] == "01":
                found.add(int(row[2].rpartition(":")[2], 16))
    return found


def _rest(client: socket.socket) -> bytes:
    """What comes until the connection ends, however it ends."""
    received = b""
    with suppress(ConnectionError):
        while chunk := client.recv(4096):
            received += chunk
    return received


def test_services_that_hang_are_replaced_without_a_refused_or_broken_request(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2", "--workers", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    services = ("gateway", "health", "deployer", "proxy")
    with Traffic(one.port) as traffic:
        traffic.wait_for_more(50)
        wait_for("all have given a sign of life", lambda: one.metrics().get("longshore_process_memory_bytes"))
        hanging = one.children()
        for service in services:
            os.kill(hanging[service], signal.SIGSTOP)
        wait_for(
            "each has a successor",
            lambda: all(one.children().get(service, 0) not in (0, hanging[service]) for service in services),
            90,
        )
        releases.publish(one.registry, releases.SECOND)
        wait_for("a new release rolls out", lambda: one.serves(releases.SECOND), 60)
    assert traffic.refused == 0
    assert traffic.broken == []
    counted = wait_for("every connection is counted", lambda: _counted(one, traffic.answered))
    assert counted == traffic.answered


def test_replicas_survive_the_death_of_everything_and_are_taken_over(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2", "--workers", "1")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    before = {replica["id"] for replica in one.status()["replicas"]}
    deployments = _sums(one)["dewy_deployments_total"]
    children = one.children()
    one.stop(signal.SIGKILL)
    wait_for("the services end with their supervisor", lambda: not any(map(runs, children.values())))
    one.start()
    wait_for("it serves again", lambda: one.serves(releases.FIRST))
    assert {replica["id"] for replica in one.status()["replicas"]} == before
    assert _sums(one)["dewy_deployments_total"] == deployments
