"""An engine that is really restarted, and one whose disk is full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentSucceeded
from schemas.routing import Artifact
from services.common.bus.connection import Bus
from services.deployer.runtime.docker.runtime import DockerRuntime
from services.deployer.runtime.protocol import Exit, Running, Spec
from services.deployer.settings import DeployerSettings
from tests.deployer.runtime.docker.private import PrivateEngine
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually
from tests.support.docker_registry import DockerRegistry
from tests.support.images import publish
from tests.support.nats_server import NatsServer


@pytest.fixture
def short_folder(engine: docker.APIClient) -> Path:
    """For sockets, whose paths may not be long. It asks for `engine` to be skipped where that is."""
    return Path(tempfile.mkdtemp(prefix="longshore-"))


@pytest.fixture
def private(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[PrivateEngine]:
    private = PrivateEngine(short_folder, getattr(request, "param", ""))
    try:
        private.start()
        yield private
    finally:
        private.remove()


class Host:
    """A runtime and what it told."""

    def __init__(self, private: PrivateEngine, tmp_path: Path, *words: str) -> None:
        settings = DeployerSettings(
            runtime="docker",
            docker_host=private.url,
            docker_args=list(words),
            port=["8080"],
            health_path="/",
            state_dir=str(tmp_path),
        )
        self.runtime = DockerRuntime(tmp_path / "replicas" / "app", settings)
        self.exits: list[Exit] = []
        self.restarts: list[str] = []
        self.runtime.on_exit = self.exits.append
        self.runtime.on_restart = self._restarted

    def output(self, replica: str) -> str:
        return Path(self.runtime.output(replica)).read_text()

    def _restarted(self, replica: str, running: Running) -> None:
        assert running.pid
        self.restarts.append(replica)


def artifact(registry: DockerRegistry) -> Artifact:
    digest = publish(registry.host, "private-engine", "1.0.0")
    return Artifact(digest, f"{registry.host}/private-engine@{digest}")


@pytest.mark.parametrize("policy", ["no", "always"])
async def test_after_a_restart_of_the_engine_what_ended_and_what_runs_again_is_seen(
    private: PrivateEngine, image_registry: DockerRegistry, tmp_path: Path, policy: str
) -> None:
    host = Host(private, tmp_path, "--restart", policy)
    client = docker.APIClient(private.url, version="auto", timeout=30)
    try:
        assert await host.runtime.adopt() == []
        await host.runtime.start(Spec("app-1-0-x", "app", "1.0.0", 0, artifact(image_registry), host.runtime.options()))
        await eventually(lambda: b"listening" in client.logs("app-1-0-x"))  # from now on it ends at SIGTERM
        private.stop()
        assert host.runtime.output("app-1-0-x").endswith("app-1-0-x/output.log")
        private.start()
        if policy == "always":
            await eventually(lambda: host.restarts == ["app-1-0-x"])
            assert [(end.id, end.restarts) for end in host.exits] == [("app-1-0-x", True)]
            assert not host.runtime.problem("app-1-0-x")
        else:
            await eventually(lambda: host.exits)
            assert [(end.id, end.restarts, end.code) for end in host.exits] == [("app-1-0-x", False, 0)]
            assert host.output("app-1-0-x") == "listening\n"
    finally:
        client.close()
        host.runtime.close()


@pytest.mark.parametrize("private", ["32m"], indirect=True)
async def test_a_full_disk_fails_the_pull_with_the_words_of_the_engine_and_the_old_release_serves_on(
    private: PrivateEngine, nats_server: NatsServer, bus: Bus, image_registry: DockerRegistry, tmp_path: Path
) -> None:
    client = docker.APIClient(private.url, version="auto", timeout=30)
    site = DockerSite(nats_server, bus, tmp_path / "state", image_registry.host, client)
    site.release("1.0.0")
    try:
        async with site.played(), site.deployer(docker_host=private.url):
            before = await site.until_serving("1.0.0")
            await site.until(DeploymentSucceeded)
            site.release("2.0.0", ballast=os.urandom(40 << 20))
            failed = await site.until(DeploymentFailed)
            await site.until(DeploymentRolledBack)
            assert site.active() == before
            assert site.visit(site.replicas[before[0]]) == "1.0.0"
    finally:
        site.clean_up()
        client.close()
    assert failed.phase == "pull"
    assert failed.reason.startswith(f"cannot pull {site.source}/{site.repository}@sha256:")
    assert "no space left on device" in failed.reason
    assert "\n" not in failed.reason
