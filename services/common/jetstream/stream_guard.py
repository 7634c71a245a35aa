"""Keeping what the bus must hold: what somebody deletes is created again, and what is left of deleted keys goes."""

from __future__ import annotations

import asyncio

import nats.errors
import nats.js.errors

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream.key_value import MARKER_TTL

INTERVAL = 5.0
SWEEP_INTERVAL = 3600.0
"""Seconds. Markers of deleted keys are few in an hour, and go by themselves where the server can do that."""


async def recreate_missing_stream(bus: Bus) -> None:
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


async def remove_old_markers(bus: Bus) -> None:
    """Remove old markers of deleted keys now and then until cancelled. Needs an account that may purge the buckets."""
    while True:
        await bus.until_connected()
        try:
            await purge_old_markers(bus)
        except BusError as error:
            log.get(bus.service).warning("old markers of deleted keys are not removed, retrying", reason=str(error))
        await asyncio.sleep(SWEEP_INTERVAL)


async def purge_old_markers(bus: Bus, age: float = MARKER_TTL) -> None:
    """Remove the markers of keys that were deleted more than `age` seconds ago. Raises BusError.

    They have no lifetime if an older version, or one on a server older than 2.11, left them.
    """
    for bucket in subjects.BUCKETS:
        try:
            await (await bus.jetstream.key_value(bucket)).purge_deletes(int(age))
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"cannot purge {bucket}: {error or type(error).__name__}") from error


async def _create(bus: Bus) -> None:
    logger = log.get(bus.service)
    try:
        await bus.ensure()
    except BusError as error:
        logger.warning("the log's stream is gone and cannot be created", stream=subjects.STREAM, reason=str(error))
    else:
        logger.warning("the log's stream was deleted: created anew", stream=subjects.STREAM)
