"""What processes print, over a real bus."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from schemas.events import ReplicaExited
from schemas.output import ReadLogs
from services.common.streaming.messages import End
from tests.deployer.output.reading import everything, following
from tests.deployer.site import Site
from tests.deployer.waiting import DEADLINE
from tests.support.releases import SERVER, release

CHATTY = SERVER.replace(
    "while True:", "import sys\nprint('to stderr', file=sys.stderr, flush=True)\nnumber = 0\nwhile True:"
).replace("    connection.close()", "    connection.close()\n    number += 1\n    print('visit', number, flush=True)")


@pytest.fixture
def before() -> float:
    return time.time()


async def test_the_output_of_replicas_is_read_followed_and_kept_after_their_end(site: Site, before: float) -> None:
    release(site.registry, "1.0.0", CHATTY)
    async with site.deployer(replicas=2):
        first, second = await site.until_serving("1.0.0", 2)
        lines, end = await everything(site.bus, ReadLogs(replicas=[first]))
        assert ([line.text for line in lines][:2], end) == ([b"listening", b"to stderr"], End())
        assert before < lines[0].time < time.time()
        async with asyncio.timeout(DEADLINE):  # a replica may serve before its output is read
            while len(lines := (await everything(site.bus, ReadLogs(tail=1)))[0]) < 2:
                await site.bus.client.flush()
        assert {line.replica for line in lines} == {first, second}
        assert await everything(site.bus, ReadLogs(since=time.time() + 1000)) == ([], End())
        async with following(site.bus, ReadLogs(tail=0, follow=True)) as found, asyncio.timeout(DEADLINE):
            os.kill(site.pids()[first], signal.SIGKILL)
            await site.until(ReplicaExited)
            async for line in found:
                if line.replica not in (first, second):  # the one in its place is followed as well
                    break
        lines, _ = await everything(site.bus, ReadLogs(replicas=[first]))
        assert lines[0].text == b"listening"
        lines, _ = await everything(site.bus, ReadLogs(previous=True, tail=2))
        assert {line.replica for line in lines} == {first}
        lines, end = await everything(site.bus, ReadLogs(replicas=["x"]))
        assert (lines, end.code, "replica 'x' is not kept here" in end.reason) == ([], 1, True)


async def test_a_deployer_that_stops_ends_the_streams_and_says_so(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        reading = asyncio.create_task(everything(site.bus, ReadLogs(follow=True)))
        await asyncio.sleep(0)
        async with following(site.bus, ReadLogs(follow=True)) as found:  # the other one is open as well, or is soon
            assert (await anext(found)).text == b"listening"
    lines, end = await reading
    assert [line.text for line in lines] in ([], [b"listening"])  # this one may be stopped before its first line
    assert end == End(1, "the deployer of web stops")
