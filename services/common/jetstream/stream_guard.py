"""Tasks that keep the bus in order: they recreate a deleted stream, and remove the markers of deleted keys."""

from __future__ import annotations

import asyncio

import nats.errors
import nats.js.errors

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.bus.key_value import MARKER_TTL
from services.common.errors import BusError
from services.common.jetstream.provisioning import Limits, ensure_streams

INTERVAL = 5.0
SWEEP_INTERVAL = 3600.0
"""Seconds. Markers of deleted keys are few in an hour, and go by themselves where the server can do that."""


async def recreate_missing_stream(bus: Bus, wanted: Limits | None = None) -> None:
    """Create the log's stream again, with the limits `wanted`, whenever it is missing, until cancelled.

    Needs an account that may create it.
    """
    while True:
        await asyncio.sleep(INTERVAL)
        await bus.until_connected()
        try:
            await bus.jetstream.stream_info(subjects.STREAM)
        except nats.js.errors.NotFoundError:
            await _create(bus, wanted)
        except (nats.errors.Error, TimeoutError):
            continue  # the tasks that read or write the stream log it


async def remove_old_markers(bus: Bus) -> None:
    """Remove old markers of deleted keys once an hour, until cancelled. Needs an account that may purge the buckets."""
    while True:
        await bus.until_connected()
        try:
            await purge_old_markers(bus)
        except BusError as error:
            log.get(bus.service).warning("old markers of deleted keys are not removed, retrying", reason=str(error))
        await asyncio.sleep(SWEEP_INTERVAL)


async def purge_old_markers(bus: Bus, age: float = MARKER_TTL) -> None:
    """Remove the markers of keys that were deleted more than `age` seconds ago. Raises BusError.

    A marker has no lifetime if an older version, or a server older than 2.11, left it.
    """
    for bucket in subjects.BUCKETS:
        try:
            await (await bus.jetstream.key_value(bucket)).purge_deletes(int(age))
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"cannot purge {bucket}: {error or type(error).__name__}") from error


async def _create(bus: Bus, wanted: Limits | None) -> None:
    logger = log.get(bus.service)
    try:
        await ensure_streams(bus, wanted)
    except BusError as error:
        logger.warning("the log's stream is gone and cannot be created", stream=subjects.STREAM, reason=str(error))
    else:
        logger.warning("the log's stream was deleted: created again", stream=subjects.STREAM)
