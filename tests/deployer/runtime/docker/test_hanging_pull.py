"""An image whose pull hangs holds up nothing but its own release."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.commands import Abort, Drain, Pause, Retry
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReplicaStarted,
)
from services.deployer.runtime.docker.engine import Engine, url
from services.deployer.runtime.docker.images import Images
from tests.deployer.registry.oci.hostile import DRIP, HANG
from tests.deployer.runtime.docker.front import Front, is_pull
from tests.deployer.runtime.docker.relay import Relay
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.runtime.docker.test_images import artifact
from tests.deployer.waiting import eventually
from tests.support.patience import patience


@pytest.fixture
async def front(site: DockerSite) -> AsyncIterator[Front]:
    async with Front(site.store) as front:
        site.source = front.host
        yield front


@pytest.fixture
async def relay(site: DockerSite, tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(url(""), tmp_path / "engine.sock")
    await relay.mend()
    yield relay
    await relay.cut()


def pulls(front: Front) -> int:
    return sum(is_pull(request) for request in front.requests)


@pytest.mark.parametrize("answer", [HANG, DRIP], ids=["silent", "dripping"])
async def test_a_replica_is_replaced_while_the_next_release_is_pulled_and_the_pull_can_be_ended(
    site: DockerSite, front: Front, relay: Relay, answer: bytes
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_host=relay.url):
        (first,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        before = pulls(front)
        front.spoil = lambda request: answer if is_pull(request) else None
        site.release("2.0.0", ballast=os.urandom(1000))  # nothing of it is here: every test pushes the same busybox
        await eventually(lambda: pulls(front) > before)
        await asyncio.to_thread(site.engine.kill, site.ids()[first])
        await eventually(lambda: site.active() and site.active() != [first])
        (second,) = await site.until_serving("1.0.0")
        refused = await site.ask(Drain(second), ok=False)
        assert refused.message == "release 2.0.0 is being deployed: wait for its end, or end it with `longshore abort`"
        await site.ask(Pause())
        await site.ask(Abort("ann"))
        await site.until(DeploymentRolledBack)
        await eventually(lambda: relay.streams(b"/images/create") == 0)
        assert site.active() == [second]
        assert set(site.containers()) == {second}
        front.passes()
        await site.ask(Retry())
        assert len(site.of(DeploymentStarted)) == 2
    (failed,) = site.of(DeploymentFailed)
    assert (failed.phase, failed.reason) == ("pull", "aborted by ann")


async def test_a_start_whose_image_is_gone_and_hangs_is_one_start_and_one_container(
    site: DockerSite, front: Front
) -> None:
    digest = site.release("1.0.0", ballast=os.urandom(1000))  # a layer that no other image has
    async with site.deployer():
        (first,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
    await asyncio.to_thread(site.engine.remove_container, site.ids()[first], force=True)
    await asyncio.to_thread(site.engine.remove_image, artifact(site, digest).location, force=True)
    before = pulls(front)
    front.spoil = lambda request: HANG if is_pull(request) else None
    async with site.deployer(health_timeout=2.0):
        await eventually(lambda: pulls(front) > before)
        began = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > began + 6.0)  # three times what a start may take
        assert site.containers() == {}
        front.passes()
        front.cut()
        await site.until(ReplicaStarted, 2)  # the engine asks again for a layer after seconds
        (second,) = await site.until_serving("1.0.0")
        assert site.containers() == {second: "running"}


async def test_a_pull_or_a_removal_is_waited_for_by_its_own_image_alone(
    site: DockerSite, front: Front, tmp_path: Path
) -> None:
    here, there = (artifact(site, site.release(tag, ballast=os.urandom(1000))) for tag in ("1.0.0", "2.0.0"))
    engine = Engine("")
    images = Images(engine, tmp_path / "images.json", 600, 0)
    try:
        await images.need(here)
        before = pulls(front)
        front.spoil = lambda request: HANG if is_pull(request) else None
        pulling = asyncio.create_task(images.need(there))
        await eventually(lambda: pulls(front) > before)
        async with asyncio.timeout(patience(20)):
            await images.need(here)
            await images.prune({there.location})
        assert not await images.holds(here)
        assert not pulling.done()
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)
    finally:
        engine.close()
