"""A command that was answered with an error is never carried out later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from schemas import subjects
from schemas.commands import Command, Deploy, Drain, Pause, Reply, Resume, Retry, Rollback
from schemas.events import CommandAnswered, DeploymentStarted, DeploymentSucceeded
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.deployer.reconcile.reconciler import Reconciler
from tests.deployer.site import HOST, Site
from tests.deployer.waiting import DEADLINE
from tests.support.releases import release


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """While this is cleared, the deployer is in the middle of a step."""
    gate = asyncio.Event()
    gate.set()
    changing = Reconciler.changing

    @contextlib.asynccontextmanager
    async def slowly(reconciler: Reconciler) -> AsyncIterator[None]:
        async with changing(reconciler):
            await gate.wait()
            yield

    monkeypatch.setattr(Reconciler, "changing", slowly)
    return gate


@pytest.mark.parametrize("command", [Pause("ann"), Rollback("1.0.0", "ann"), Deploy("1.0.0", "ann"), Resume("ann")])
async def test_a_deployer_that_is_busy_until_the_requester_gave_up_changes_nothing(
    command: Command, site: Site, busy: asyncio.Event
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        before = await site.decisions()
        busy.clear()
        with pytest.raises(BusError, match="no answer on"):
            await site.bus.request(subjects.commands("web", HOST), command, 1.0)
        busy.set()
        await site.until(CommandAnswered)
        assert await site.decisions() == before
    (answered,) = site.of(CommandAnswered)
    assert not answered.ok
    assert "too late" in answered.message
    assert len(site.of(DeploymentStarted)) == 2


@pytest.mark.parametrize("command", [Drain("x", "ann"), Retry("x", "ann")])
async def test_the_other_orders_have_the_same_deadline(command: Command, site: Site, busy: asyncio.Event) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        busy.clear()
        with pytest.raises(BusError, match="no answer on"):
            await site.bus.request(subjects.commands("web", HOST), command, 1.0)
        busy.set()
        await site.until(CommandAnswered)
    assert "too late" in site.of(CommandAnswered)[0].message


async def test_decisions_whose_write_was_not_acknowledged_are_not_found_there_by_the_next_deployer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus took them, and its answer was lost: the command was answered with an error."""
    release(site.registry, "1.0.0")
    put = Bus.put

    async def unanswered(bus: Bus, bucket: str, key: str, value: msgspec.Struct) -> None:
        await put(bus, bucket, key, value)
        raise BusError("no answer")

    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        with monkeypatch.context() as context:
            context.setattr(Bus, "put", unanswered)
            answer = await site.bus.request(subjects.commands("web", HOST), Pause("ann"))
        assert not msgspec.json.decode(answer, type=Reply).ok

        async with asyncio.timeout(DEADLINE):
            while (await site.decisions()).paused:  # noqa: ASYNC110 - the bus is looked at
                await asyncio.sleep(0.05)
