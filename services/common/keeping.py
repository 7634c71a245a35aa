"""Keeping what the bus must hold: what somebody deletes is created again."""

from __future__ import annotations

import asyncio

import nats.errors
import nats.js.errors

from schemas import subjects
from services.common import log
from services.common.bus import Bus
from services.common.errors import BusError

INTERVAL = 5.0


async def keep(bus: Bus) -> None:
    """Look after the log's stream until cancelled. Needs an account that may create it."""
    while True:
        await asyncio.sleep(INTERVAL)
        await bus.until_connected()
        try:
            await bus.jetstream.stream_info(subjects.STREAM)
        except nats.js.errors.NotFoundError:
            await _create(bus)
        except (nats.errors.Error, TimeoutError):
            continue  # whoever works with it says so


async def _create(bus: Bus) -> None:
    logger = log.get(bus.service)
    try:
        await bus.ensure()
    except BusError as error:
        logger.warning("the log's stream is gone and cannot be created", stream=subjects.STREAM, reason=str(error))
    else:
        logger.warning("the log's stream was deleted: created anew", stream=subjects.STREAM)
