"""Deployments of real images to a real engine, over a real bus."""

from __future__ import annotations

import pytest

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ImagePulled,
    ReleaseFound,
    ReplicaDraining,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaRouted,
    ReplicasSampled,
    ReplicaStarted,
    ScaleSet,
)
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually


async def test_the_newest_image_is_deployed_and_each_step_is_told(site: DockerSite) -> None:
    site.release("1.0.0")
    digest = site.release("1.1.0")
    async with site.deployer(replicas=2):
        ids = await site.until_serving("1.1.0", 2)
        await site.until(DeploymentSucceeded)
    assert [site.visit(site.replicas[one]) for one in ids] == ["1.1.0"] * 2
    assert site.of(ReleaseFound)[0].digest == digest
    per_replica = [ReplicaStarted, ReplicaReady, ReplicaRouted]
    assert [type(event) for event in site.events if not isinstance(event, ReplicasSampled)] == [
        ScaleSet,
        ReleaseFound,
        DeploymentStarted,
        ImagePulled,
        *per_replica * 2,
        DeploymentSucceeded,
    ]
    assert site.containers() == dict.fromkeys(ids, "running")
    assert site.images() == {digest}
    labels = site.engine.inspect_container(ids[0])["Config"]["Labels"]
    assert labels == {
        "longshore.app": "web",
        "longshore.release": "1.1.0",
        "longshore.digest": digest,
        "longshore.replica": ids[0],
        "longshore.instance": (site.state_dir / "instance").read_text(),
    }


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
async def test_a_new_image_takes_over_and_nothing_of_the_old_containers_is_left(
    site: DockerSite, strategy: str
) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2, strategy=strategy):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        seen = len(site.routes)
        site.release("2.0.0")
        ids = await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: site.containers() == dict.fromkeys(ids, "running"))
    active = [sum(backend.state == "active" for backend in route.backends) for route in site.routes[seen - 1 :]]
    assert min(active) == 2
    assert max(active) == (3 if strategy == "rolling" else 4)
    assert [event.reason for event in site.of(ReplicaRetired)] == ["replaced"] * 2
    assert {event.replica for event in site.of(ReplicaDraining)} == {event.replica for event in site.of(ReplicaRetired)}
    assert not site.of(ReplicaExited)


async def test_a_broken_image_is_tried_once_and_a_newer_one_deploys(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        site.release("1.1.0", "echo no database; exit 3")
        await site.until(DeploymentRolledBack)
        site.release("1.2.0", "exit 3")
        await site.until(DeploymentRolledBack, 2)
        assert await site.until_serving("1.0.0", 2) == before
        site.release("1.3.0")
        await site.until_serving("1.3.0", 2)
        await site.until(DeploymentSucceeded, 2)
    assert [event.release for event in site.of(DeploymentStarted)] == ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]
    assert [event.release for event in site.of(ImagePulled)] == ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]
    failed = site.of(DeploymentFailed)[0]
    assert (failed.release, failed.phase) == ("1.1.0", "check")
    assert "exited with code 3" in failed.reason
    exit_ = site.of(ReplicaExited)[0]
    output = site.state_dir / "replicas" / "web" / exit_.replica / "output.log"
    assert (exit_.code, output.read_text()) == (3, "no database\n")
    assert (exit_.output, failed.output) == ("no database", "no database")
