"""Which applications have no deployer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from schemas import subjects
from services.cli.queries import leaders
from services.cli.queries.leaders import without_leader
from services.common.bus.connection import Bus
from services.common.jetstream.lease import Lease
from tests.support.patience import patience

WEB = ("web-1", "web")


@contextlib.asynccontextmanager
async def leading(bus: Bus, renews: bool) -> AsyncIterator[Lease]:
    lease = Lease(bus, subjects.deployer_lease_key(*WEB), "a deployer", WEB[0], term=patience(10.0))
    async with asyncio.timeout(patience(10.0)):
        while not lease.is_held:
            await lease.round()
    renewing = asyncio.create_task(lease.run()) if renews else None
    try:
        yield lease
    finally:
        if renewing:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a lease the time to be renewed that this machine needs."""
    monkeypatch.setattr(leaders, "TERM", patience(10.0))


@pytest.mark.usefixtures("slow")
async def test_an_application_whose_deployer_renews_its_lease_has_one(bus: Bus) -> None:
    async with leading(bus, renews=True):
        assert await without_leader(bus, [WEB, ("web-1", "other")]) == {("web-1", "other")}


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
async def test_a_clock_that_differs_from_the_servers_does_not_matter(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    now = time.time
    async with leading(bus, renews=True):
        monkeypatch.setattr(time, "time", lambda: now() + ahead)
        assert await without_leader(bus, [WEB]) == set()


async def test_a_deployer_that_was_killed_has_left_its_lease_behind(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    async with leading(bus, renews=False):
        monkeypatch.setattr(time, "time", lambda: now() + 3600)  # long ago
        assert await without_leader(bus, [WEB]) == {WEB}


async def test_a_lease_that_was_given_back_is_free_at_once(bus: Bus) -> None:
    async with leading(bus, renews=True) as lease:
        await lease.release()
        assert await without_leader(bus, [WEB]) == {WEB}
