"""All of Longshore on a cluster whose servers die: traffic goes on, all resumes by itself, the counts are exact."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from tests.cluster.cluster import Cluster, Member
from tests.e2e import origin
from tests.e2e.test_chaos import Clients
from tests.support.harness import Server, longshore, wait_for

SETTLED = 120.0
pytestmark = pytest.mark.timeout(400)


class OnCluster(Server):
    """A server of several hosts' kind: its bus is the cluster."""

    def __init__(self, directory: Path, urls: str) -> None:
        options = ["--nats-url", urls, "--nats-replicas", "3", "--replicas", "2", "--health-path", "/probe"]
        super().__init__(directory, *options)
        self._urls = urls

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return longshore(*arguments, "--nats-url", self._urls)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster([Member(name, tmp_path / name) for name in ("a", "b", "c")])
    found.start()
    yield found
    found.stop()


@pytest.fixture
def one(tmp_path: Path, cluster: Cluster) -> Iterator[OnCluster]:
    (tmp_path / "counts").mkdir()
    made = OnCluster(tmp_path, ",".join(cluster.urls))
    origin.publish(made.registry, "1.0.1", tmp_path / "counts")
    made.start()
    yield made
    made.stop()
    made.end_replicas()


def leader(cluster: Cluster) -> Member:
    async def ask() -> str:
        bus = await Bus.connect("gateway", Credentials(cluster.urls), SETTLED)
        try:
            info = await bus.jetstream.stream_info(subjects.STREAM)
        finally:
            await bus.close()
        assert info.cluster
        return info.cluster.leader or ""

    return cluster.members[asyncio.run(ask())]


def test_the_system_outlives_a_leader_and_a_quorum(cluster: Cluster, one: OnCluster, tmp_path: Path) -> None:
    def publish_and_wait(release: str) -> None:
        origin.publish(one.registry, release, tmp_path / "counts")
        wait_for(f"{release} serves", lambda: one.serves(release), SETTLED)

    wait_for("the first release serves", lambda: one.serves("1.0.1"), SETTLED)
    children = one.children()
    with Clients(one.port) as clients:
        killed = leader(cluster)
        killed.kill()
        publish_and_wait("1.0.2")
        killed.start()
        dead = [member for member in cluster.members.values() if member is not killed]
        for member in dead:
            member.kill()
        reached = clients.connections + 300
        wait_for("traffic goes on without a bus", lambda: clients.connections >= reached, SETTLED)
        dead[0].start()  # two of three are a quorum
        publish_and_wait("1.0.3")
        dead[1].start()
    assert clients.broken == []
    assert one.children() == children
    expected = {
        "dewy_proxy_connections_total": clients.connections,
        "dewy_proxy_connections_active": 0,
        "dewy_proxy_bytes_transferred_total": clients.sent + clients.received,
        "dewy_deployments_total": 3,
        "longshore_gateway_batches_missing": 0,
        "longshore_events_dropped_total": 0,
    }
    wait_for("the numbers are equal", lambda: expected.items() <= one.metrics().items(), SETTLED)
    verified = one.verb("verify")
    assert verified.returncode == 0, verified.stderr
