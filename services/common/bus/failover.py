"""Steering: leaving a server that is cut off from the others of its cluster while we still reach it."""

from __future__ import annotations

import asyncio

import nats.errors

from services.common import log
from services.common.bus.connection import Bus

INTERVAL = 5.0
PATIENCE = 10.0
LONGEST_PATIENCE = 60.0


async def leave_partitioned_server(bus: Bus) -> None:
    """Go to another server when JetStream does not answer, until cancelled.

    Where no server has a quorum that helps nothing, so each time it is tried later.
    """
    loop = asyncio.get_running_loop()
    patience, answered_at = PATIENCE, loop.time()
    while True:
        await asyncio.sleep(INTERVAL)
        await bus.until_connected()
        if len(bus.client.servers) == 1 or await _answers(bus):
            patience, answered_at = PATIENCE, loop.time()
        elif loop.time() - answered_at >= patience:
            log.get(bus.service).warning("the server of the bus has no quorum: trying another one")
            patience, answered_at = min(2 * patience, LONGEST_PATIENCE), loop.time()
            await bus.client.leave()


async def _answers(bus: Bus) -> bool:
    try:
        await bus.jetstream.account_info()
    except (nats.errors.Error, TimeoutError):
        return False
    return True
