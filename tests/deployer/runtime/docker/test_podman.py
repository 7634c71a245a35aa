"""Replicas in podman, through its Docker-compatible socket."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentSucceeded,
    ReplicaAdopted,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaStarted,
)
from services.common.bus.connection import Bus
from tests.deployer.runtime.docker.podman import Podman
from tests.deployer.runtime.docker.site import DockerSite, get
from tests.deployer.waiting import eventually
from tests.support.docker_registry import DockerRegistry
from tests.support.images import SERVE
from tests.support.nats_server import NatsServer


@pytest.fixture(scope="module")
def podman(engine: docker.APIClient) -> Iterator[Podman]:
    """It asks for `engine` to be skipped where that is."""
    one = Podman(Path(tempfile.mkdtemp(prefix="longshore-")))
    one.start()
    yield one
    one.remove()


@pytest.fixture
async def site(
    nats_server: NatsServer,
    bus: Bus,
    tmp_path: Path,
    podman: Podman,
    image_registry: DockerRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[DockerSite]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    client = docker.APIClient(podman.url, version="auto", timeout=30)
    site = DockerSite(nats_server, bus, tmp_path / "state", image_registry.host, client)
    site.options["docker_host"] = podman.url
    try:
        async with site.played():
            yield site
    finally:
        await asyncio.to_thread(site.clean_up)
        client.close()


async def test_a_release_is_deployed_replaced_and_rolled_back(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        site.release("2.0.0")
        after = await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
        site.release("3.0.0", "exit 3")
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert await site.until_serving("2.0.0", 2) == after
        assert [get("127.0.0.1", site.replicas[one].port) for one in after] == ["2.0.0"] * 2
        await eventually(lambda: site.containers() == dict.fromkeys(after, "running"))
    assert "exited with code 3" in failed.reason
    assert [event.reason for event in site.of(ReplicaRetired)] == ["replaced"] * 2


async def test_the_engine_tells_at_once_how_a_container_ended(site: DockerSite) -> None:
    site.release("1.0.0", SERVE.replace("exit 0", "exit 5"))
    async with site.deployer():
        (first,) = await site.until_serving("1.0.0")
        await asyncio.to_thread(site.engine.kill, first, "KILL")
        (second,) = await eventually(lambda: [one for one in site.active() if one != first])
        await site.until_serving("1.0.0")
        await asyncio.to_thread(site.engine.kill, second, "TERM")
        await site.until(ReplicaExited, 2)
        (third,) = await site.until_serving("1.0.0")
        await asyncio.to_thread(site.engine.remove_container, third, force=True)
        await site.until(ReplicaExited, 3)
        await eventually(lambda: site.active() and site.active() != [third])
    exits = [(event.replica, event.code) for event in site.of(ReplicaExited)]
    assert exits[:2] == [(first, 137), (second, 5)]
    assert exits[2][0] == third


async def test_the_next_deployer_adopts_what_runs_and_restarts_none(site: DockerSite) -> None:
    site.release("1.0.0", SERVE.replace("exit 0", "exit 5"))
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        containers = site.ids()
    await asyncio.to_thread(site.engine.kill, before[1], "TERM")
    await eventually(lambda: site.containers()[before[1]] == "exited")
    async with site.deployer(replicas=2):
        adopted = await site.until(ReplicaAdopted)
        await site.until(ReplicaExited)
        after = await eventually(
            lambda: site.active() if len(site.active()) == 2 and before[1] not in site.active() else []
        )
        assert site.ids()[before[0]] == containers[before[0]]
    assert adopted.replica == before[0]
    assert before[0] in after
    assert [(event.replica, event.code) for event in site.of(ReplicaExited)] == [(before[1], 5)]


async def test_one_that_its_restart_policy_starts_again_serves_again_or_is_replaced(site: DockerSite) -> None:
    """Podman does not say whether it will start it again: who asks in between sees a container that has ended."""
    site.release("1.0.0")
    async with site.deployer(docker_args=["--restart", "always"]):
        before = await site.until_serving("1.0.0")
        os.kill(site.engine.inspect_container(before[0])["State"]["Pid"], signal.SIGKILL)
        await site.until(ReplicaReady, 2)
        (after,) = await site.until_serving("1.0.0")
        assert get("127.0.0.1", site.replicas[after].port) == "1.0.0"
        await eventually(lambda: list(site.containers()) == [after])
    assert len(site.of(ReplicaStarted)) == 2
