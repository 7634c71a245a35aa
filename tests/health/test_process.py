"""The health service as a process: how it starts, dies and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.events import ServiceStarted, ServiceStopped
from tests.health.conftest import HOST, House, until
from tests.health.origins import BROKEN, origin

START = """
import sys
from services.health.service import run
from services.health.settings import HealthSettings
run(HealthSettings(host=sys.argv[1], nats_url=[sys.argv[2]]))
"""


@asynccontextmanager
async def process(house: House) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", START, HOST, house.server.url)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


def started(house: House) -> list[ServiceStarted]:
    return [event for event in house.events if isinstance(event, ServiceStarted)]


async def test_it_says_that_it_started_and_that_it_stopped(house: House) -> None:
    async with origin() as site:
        await house.add(site.replica())
        async with process(house) as running:
            await house.until_verdict(site.replica(), True)
            running.terminate()
            assert await running.wait() == 0
        await until(lambda: any(isinstance(event, ServiceStopped) for event in house.events))
        (start,) = started(house)
        assert (start.unit, start.pid) == ("health", running.pid)
        assert isinstance(house.events[-1], ServiceStopped)
        assert len(house.checks(site.replica())) == len(site.requests)


async def test_killed_and_started_again_it_goes_on_where_it_was(house: House) -> None:
    async with origin() as site:
        await house.add(site.replica())
        async with process(house) as running:
            await house.until_verdict(site.replica(), True)
            await until(lambda: house.changes(site.replica()) == [True])
            os.kill(running.pid, signal.SIGKILL)
            assert await running.wait() == -signal.SIGKILL
        assert (await house.verdict(site.replica())) is not None
        site.reply = BROKEN
        async with process(house):
            await house.until_verdict(site.replica(), False)
            await until(lambda: house.changes(site.replica()) == [True, False])
    assert len(started(house)) == 2
