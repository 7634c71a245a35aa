"""Images: how they are pulled, what keeps them from running, and which are removed."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentStarted, DeploymentSucceeded, ImagePulled
from schemas.routing import Artifact
from services.common.errors import ReleaseError
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.images import Images
from services.deployer.runtime.docker.runtime import DockerRuntime
from services.deployer.service import replicas
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually
from tests.support.docker_registry import PASSWORD, USERNAME, DockerRegistry


@asynccontextmanager
async def runtime(site: DockerSite, **options: Any) -> AsyncIterator[DockerRuntime]:
    settings = site.settings(**options)
    opened = DockerRuntime(replicas(settings), settings)
    try:
        yield opened
    finally:
        opened.close()


def artifact(site: DockerSite, digest: str) -> Artifact:
    return Artifact(digest, f"{site.source}/{site.repository}@{digest}")


async def test_a_vanished_image_fails_the_pull_with_the_words_of_the_engine(site: DockerSite) -> None:
    lost = f"sha256:{'0' * 64}"
    async with runtime(site) as opened:
        with pytest.raises(ReleaseError, match=r"cannot pull .*: manifest .*unknown") as failed:
            await opened.pull(artifact(site, lost), opened.options())
    assert "\n" not in str(failed.value)


async def test_a_registry_that_is_gone_fails_the_pull_and_the_old_release_serves_on(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer():
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.options["registry"] = "img://127.0.0.1:1/nobody"
        async with runtime(site, app="other") as opened:
            with pytest.raises(ReleaseError, match=r"cannot pull 127.0.0.1:1/nobody@sha256:.*refused"):
                await opened.pull(Artifact("", f"127.0.0.1:1/nobody@sha256:{'1' * 64}"), opened.options())
        assert site.active() == before


async def test_a_pull_that_takes_too_long_is_given_up(site: DockerSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with runtime(site, pull_timeout=0.5) as opened:
            with pytest.raises(ReleaseError, match=r"not done within --pull-timeout 0.5 s"):
                await opened.pull(Artifact("", f"127.0.0.1:{port}/slow@sha256:{'2' * 64}"), opened.options())


async def test_an_image_for_another_platform_is_refused(site: DockerSite) -> None:
    foreign = site.release("1.0.0", arch="s390x")
    async with runtime(site) as opened:
        with pytest.raises(ReleaseError, match="is for linux/s390x, and this engine runs linux/amd64"):
            await opened.pull(artifact(site, foreign), opened.options())


@pytest.mark.parametrize(
    ("exposed", "problem"),
    [
        ({}, "exposes no TCP port: name one with --port 8080:CONTAINER-PORT"),
        ({"53/udp": {}}, "exposes no TCP port"),
        ({"80/tcp": {}, "443/tcp": {}}, "exposes the TCP ports 80, 443: name one with --port 8080:CONTAINER-PORT"),
    ],
)
async def test_without_exactly_one_exposed_port_the_container_port_must_be_named(
    site: DockerSite, exposed: dict[str, Any], problem: str
) -> None:
    digest = site.release("1.0.0", ExposedPorts=exposed)
    async with runtime(site) as opened:
        with pytest.raises(ReleaseError, match=problem):
            await opened.pull(artifact(site, digest), opened.options())
    async with runtime(site, port=["8080:8080"]) as opened:
        await opened.pull(artifact(site, digest), opened.options())


async def test_an_image_whose_program_cannot_be_started_fails_its_deployment(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer():
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.release("2.0.0", Cmd=["/no/such/program"])
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        await eventually(lambda: site.containers() == {before[0]: "running"})
    assert failed.phase == "start"
    assert "/no/such/program" in failed.reason
    assert "\n" not in failed.reason


async def test_a_registry_that_wants_a_password_gets_that_of_the_configuration(
    site: DockerSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    locked = DockerRegistry(tmp_path / "locked", is_locked=True)
    locked.start()
    try:
        digest = locked.push("private", "1.0.0")
        image = Artifact(digest, f"{locked.host}/private@{digest}")
        async with runtime(site, port=["8080:8080"]) as opened:
            with pytest.raises(ReleaseError, match="no basic auth credentials"):
                await opened.pull(image, opened.options())
            monkeypatch.setenv("LONGSHORE_REGISTRY_USERNAME", USERNAME)
            monkeypatch.setenv("LONGSHORE_REGISTRY_PASSWORD", PASSWORD)
            with pytest.raises(ReleaseError) as failed:
                await opened.pull(image, opened.options())
        assert "is not a layer" not in str(failed.value)
        assert "no basic auth" not in str(failed.value)
        assert PASSWORD not in str(failed.value)
        assert any(f"GET /v2/private/manifests/{digest}" in line for line in locked.requests)
    finally:
        locked.stop()


async def test_what_was_pulled_once_is_not_pulled_again(site: DockerSite, image_registry: DockerRegistry) -> None:
    image = artifact(site, site.release("1.0.0"))
    async with runtime(site) as opened:
        await opened.pull(image, opened.options())
        pulls = [line for line in image_registry.requests if site.repository in line and line.startswith("GET")]
        await opened.pull(image, opened.options())
        assert [line for line in image_registry.requests if site.repository in line and line.startswith("GET")] == pulls


async def test_images_that_nobody_needs_are_removed_but_for_the_last_few(site: DockerSite) -> None:
    digests = {}
    async with site.deployer(keep_images=1):
        for n, tag in enumerate(("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"), 1):
            digests[tag] = site.release(tag)
            await site.until_serving(tag)
            await site.until(DeploymentSucceeded, n)
        kept = {digests[tag] for tag in ("1.2.0", "1.3.0", "1.4.0")}
        await eventually(lambda: site.images() == kept)
    assert len(site.of(ImagePulled)) == 5


async def test_an_image_that_somebody_else_pulled_is_never_removed(site: DockerSite, tmp_path: Path) -> None:
    theirs, ours, used = (artifact(site, site.release(tag)) for tag in ("1.0.0", "1.1.0", "1.2.0"))
    site.engine.pull(theirs.location)
    engine = Engine("")
    images = Images(engine, tmp_path / "images.json", 60, 0)
    try:
        for one in (theirs, ours, used):
            await images.need(one)
        assert set(json.loads((tmp_path / "images.json").read_bytes())) == {ours.location, used.location}
        name = f"{site.repository}-user"
        site.engine.create_container_from_config({"Image": used.location}, name)
        await images.prune([])
        assert site.images() == {theirs.digest, used.digest}
        site.engine.remove_container(name)
        await images.prune([])
        assert site.images() == {theirs.digest}
        assert json.loads((tmp_path / "images.json").read_bytes()) == {}
    finally:
        engine.close()


async def test_a_broken_image_is_not_pulled_again(site: DockerSite, image_registry: DockerRegistry) -> None:
    site.release("1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        broken = site.release("2.0.0", "exit 1")
        await site.until(DeploymentRolledBack)
        asked = sum("tags/list" in line and site.repository in line for line in image_registry.requests)
        await eventually(
            lambda: sum("tags/list" in line and site.repository in line for line in image_registry.requests) > asked + 5
        )
    assert len(site.of(DeploymentStarted)) == 2
    pulls = [
        line for line in image_registry.requests if line.startswith(f"GET /v2/{site.repository}/manifests/{broken}")
    ]
    assert len(pulls) == 1


@pytest.mark.parametrize("name", ["", "x86_64"], ids=["none", "the-kernel-s"])
async def test_an_image_is_run_whose_builder_wrote_another_architecture_than_the_engine(
    site: DockerSite, name: str
) -> None:
    site.release("1.0.0", arch=name)
    async with site.deployer():
        await site.until_serving("1.0.0")
