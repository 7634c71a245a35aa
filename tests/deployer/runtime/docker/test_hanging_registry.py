"""A registry that takes connections and does not answer, or never to the end: only who asks for its releases waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from schemas import subjects
from schemas.commands import Abort, Command, Deploy, Drain, Pause, Reply, Resume, Rollback
from schemas.events import DeploymentStarted, DeploymentSucceeded, ReleaseFound
from services.deployer.commands import command_handler
from services.deployer.reconcile import registry_poller
from services.deployer.registry.oci import session
from tests.deployer.registry.oci.hostile import DRIP, HANG, Request
from tests.deployer.runtime.docker.front import Front
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.site import HOST
from tests.deployer.waiting import eventually

EVER = 3600.0


class Gate(Front):
    """Requests wait until it is `open`."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        request = await super()._read(reader)
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return request


@pytest.fixture
async def front(site: DockerSite, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    """Nobody gives up waiting for it, unless a test says so."""
    for module, name in ((session, "TIMEOUT"), (registry_poller, "POLL_TIMEOUT"), (command_handler, "LOOKUP_TIMEOUT")):
        monkeypatch.setattr(module, name, EVER)
    async with Gate(site.store) as front:
        site.source = front.host
        yield front


def ordered(site: DockerSite, command: Command) -> asyncio.Task[bytes]:
    """A command that nobody gives up to wait for."""
    return asyncio.create_task(site.bus.request(subjects.commands("web", HOST), command, EVER))


async def hangs(front: Front, answer: bytes) -> None:
    """From now on nobody gets a whole answer; the deployer's own look waits for one already."""
    front.spoil = lambda request: answer
    asked = len(front.requests)
    await eventually(lambda: len(front.requests) > asked)


@pytest.mark.parametrize("answer", [HANG, DRIP], ids=["silent", "dripping"])
async def test_while_a_deploy_waits_for_its_registry_all_else_is_answered_and_done(
    site: DockerSite, front: Front, answer: bytes
) -> None:
    site.release("1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        site.release("2.0.0")
        await site.until(DeploymentSucceeded, 2)
        (replica,) = await site.until_serving("2.0.0")
        await hangs(front, answer)
        asked = len(front.requests)
        hung = ordered(site, Deploy())
        await eventually(lambda: len(front.requests) > asked)
        await site.ask(Pause())
        await site.ask(Resume())
        await asyncio.to_thread(site.engine.kill, site.ids()[replica])
        await eventually(lambda: site.active() and site.active() != [replica])
        (replica,) = await site.until_serving("2.0.0")
        await site.ask(Drain(replica))
        await eventually(lambda: site.active() and site.active() != [replica])
        await site.until_serving("2.0.0")
        await site.ask(Rollback())
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded, 3)
        assert not hung.done()
        hung.cancel()
    assert [event.release for event in site.of(DeploymentStarted)] == ["1.0.0", "2.0.0", "1.0.0"]


async def test_an_ordered_look_up_ends_with_one_line(
    site: DockerSite, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.release("1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await hangs(front, DRIP)
        monkeypatch.setattr(command_handler, "LOOKUP_TIMEOUT", 0.5)
        for command in (Deploy(), Rollback("0.9.0")):
            refused = await site.ask(command, ok=False)
            assert refused.message == f"no answer from {site.settings().registry} within 0.5 s: is it up?"


async def test_an_ordered_look_up_can_be_aborted(site: DockerSite, front: Front) -> None:
    site.release("1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await hangs(front, HANG)
        asked = len(front.requests)
        hung = ordered(site, Deploy())
        await eventually(lambda: len(front.requests) > asked)
        reply = await site.ask(Abort("ann"))
        assert reply == Reply(True, "the registry is no longer asked for a release: nothing is deployed")
        assert msgspec.json.decode(await hung, type=Reply) == Reply(False, "aborted by ann")
        assert (await site.ask(Abort(), ok=False)).message == "no deployment is under way: nothing to abort"
    assert len(site.of(DeploymentStarted)) == 1


async def test_what_is_resumed_is_answered_without_its_deployment_when_the_registry_hangs(
    site: DockerSite, front: Front
) -> None:
    site.release("1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await site.ask(Pause())
        site.release("2.0.0")
        await site.until(ReleaseFound, 2)
        await hangs(front, HANG)
        reply = await site.ask(Resume())
        assert "release 2.0.0 is deployed as soon as the registry answers (no answer from" in reply.message
        assert not reply.deployment
        assert not (await site.decisions()).paused


async def test_a_pause_that_comes_during_the_look_up_is_heeded(site: DockerSite, front: Gate) -> None:
    site.release("1.0.0")
    site.release("1.1.0")
    async with site.deployer():
        await site.until_serving("1.1.0")
        await site.until(DeploymentSucceeded)
        front.open.clear()
        await eventually(lambda: front.waiting == 1)  # the deployer's own look
        hung = ordered(site, Deploy("1.0.0"))
        await eventually(lambda: front.waiting == 2)
        await site.ask(Pause())
        front.open.set()
        reply = msgspec.json.decode(await hung, type=Reply)
        assert (reply.ok, reply.message) == (False, "deployments are paused: `longshore resume` first")
    assert len(site.of(DeploymentStarted)) == 1
