"""An engine that is really restarted, and one whose disk is full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from schemas.routing import Artifact
from services.common.errors import ReleaseError
from services.deployer.runtime.docker.runtime import DockerRuntime
from services.deployer.runtime.protocol import Exit, Running, Spec
from services.deployer.settings import DeployerSettings
from tests.deployer.docker.images import SERVE, publish
from tests.deployer.docker.private import PrivateEngine
from tests.deployer.registry.docker_registry import DockerRegistry
from tests.deployer.waiting import eventually


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


def artifact(registry: DockerRegistry, script: str = SERVE, ballast: bytes = b"") -> Artifact:
    digest = publish(registry.host, "private-engine", "1.0.0", script, ballast=ballast)
    return Artifact(digest, f"{registry.host}/private-engine@{digest}")


@pytest.mark.parametrize("policy", ["no", "always"])
async def test_after_a_restart_of_the_engine_what_ended_and_what_runs_again_is_seen(
    private: PrivateEngine, image_registry: DockerRegistry, tmp_path: Path, policy: str
) -> None:
    host = Host(private, tmp_path, "--restart", policy)
    try:
        assert await host.runtime.adopt() == []
        await host.runtime.start(Spec("app-1-0-x", "app", "1.0.0", 0, artifact(image_registry)))
        private.stop()
        assert host.runtime.output("app-1-0-x").endswith("app-1-0-x/output.log")
        private.start()
        if policy == "always":
            await eventually(lambda: host.restarts == ["app-1-0-x"])
            assert [(end.id, end.restarts) for end in host.exits] == [("app-1-0-x", True)]
            assert host.runtime.passes("app-1-0-x")
        else:
            await eventually(lambda: host.exits)
            assert [(end.id, end.restarts, end.code) for end in host.exits] == [("app-1-0-x", False, 0)]
            assert host.output("app-1-0-x") == "listening\n"
    finally:
        host.runtime.close()


@pytest.mark.parametrize("private", ["32m"], indirect=True)
async def test_a_full_disk_fails_the_pull_with_the_words_of_the_engine(
    private: PrivateEngine, image_registry: DockerRegistry, tmp_path: Path
) -> None:
    host = Host(private, tmp_path)
    image = artifact(image_registry, ballast=os.urandom(40 << 20))
    try:
        with pytest.raises(ReleaseError, match="no space left on device") as failed:
            await host.runtime.pull(image)
    finally:
        host.runtime.close()
    assert str(failed.value).startswith(f"cannot pull {image.location}: ")
    assert "\n" not in str(failed.value)
