"""Failover: leave a server that is cut off from the others of its cluster while this process still reaches it."""

from __future__ import annotations

import asyncio

import nats.errors

from services.common import log
from services.common.backoff import Backoff
from services.common.bus.connection import Bus

INTERVAL = 5.0
FIRST_TIMEOUT = 10.0
LONGEST_TIMEOUT = 60.0
"""Seconds without an answer of JetStream until another server is tried. An election takes a few."""


async def leave_partitioned_server(bus: Bus) -> None:
    """Connect to another server when JetStream does not answer, until cancelled.

    Where no server has a quorum this does not help, so the timeout grows with each attempt.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(FIRST_TIMEOUT, LONGEST_TIMEOUT)
    timeout, answered_at = backoff.next(), loop.time()
    while True:
        await asyncio.sleep(INTERVAL)
        await bus.until_connected()
        if len(bus.client.servers) == 1 or await _answers(bus):
            backoff.reset()
            timeout, answered_at = backoff.next(), loop.time()
        elif loop.time() - answered_at >= timeout:
            log.get(bus.service).warning("the server of the bus has no quorum: trying another one")
            timeout, answered_at = backoff.next(), loop.time()
            await bus.client.leave()


async def _answers(bus: Bus) -> bool:
    try:
        await bus.jetstream.account_info()
    except (nats.errors.Error, TimeoutError):
        return False
    return True
