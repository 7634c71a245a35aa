"""Two gateways on one bus: how long a duty is nobody's when the one that has it is killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from tests.benchmarks.serving import Site, site
from tests.support.gateway_process import Gateway
from tests.support.ports import free_port

ROUNDS = 10
LEADS = 'longshore_gateway_leader{duty="snapshots"} 1.0'


async def takeovers(directory: Path) -> list[float]:
    """Seconds from each kill -9 of the leader until the other one says on /metrics that it leads."""
    async with site(directory) as here:
        leader, other = here.gateway, _second(here, directory)
        try:
            leader.start()
            await _until_leading(leader)
            delays = []
            for _ in range(ROUNDS):
                other.start()
                await other.until_ready()
                delays.append(await _takeover(leader, other))
                leader, other = other, leader
            return delays
        finally:
            leader.stop()
            other.stop()


def _second(here: Site, directory: Path) -> Gateway:
    settings = msgspec.structs.replace(here.gateway.settings, admin_port=free_port())
    return Gateway(settings, directory / "second.log")


async def _takeover(leader: Gateway, other: Gateway) -> float:
    await asyncio.sleep(1)
    began = time.perf_counter()
    leader.kill()
    await _until_leading(other)
    return time.perf_counter() - began


async def _until_leading(gateway: Gateway) -> None:
    await gateway.until("/metrics", lambda answer: LEADS in answer.text)
