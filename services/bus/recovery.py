"""Recovery from a full disk: after a failed write, nats-server refuses all others to the stream until a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import nats.errors

from services.common import log
from services.common.bus.connection import Bus

INTERVAL = 2.0
ROOM = 16 << 20
"""Bytes that must be free before a restart: with less, the disk would soon be full again."""

CANNOT_WRITE = "the bus cannot write: events wait with their services until there is room"
CAN_WRITE = "there is room again: restarting the bus, which could not write"

_HEALTH = "$SYS.REQ.SERVER.PING.HEALTHZ"


class _Status(msgspec.Struct):
    error: str = ""


class _Health(msgspec.Struct):
    data: _Status


async def recover(system: Bus, free: Callable[[], int], restart: Callable[[], None]) -> None:
    """Restart a server that could not write once there is room, until cancelled. Needs the system account."""
    logger = log.get("bus")
    is_logged = False
    while True:
        await asyncio.sleep(INTERVAL)
        await system.until_connected()
        problem = await _write_error(system)
        if problem and free() >= ROOM:
            logger.warning(CAN_WRITE, reason=problem)
            restart()
            is_logged = False
        elif problem and not is_logged:
            logger.error(CANNOT_WRITE, reason=problem)
            is_logged = True


async def _write_error(system: Bus) -> str:
    """Return why a stream takes no messages; empty while all do, or when the server does not answer."""
    try:
        answer = await system.client.request(_HEALTH, timeout=INTERVAL)
        error = msgspec.json.decode(answer.data, type=_Health).data.error
    except (nats.errors.Error, TimeoutError, msgspec.MsgspecError):
        return ""
    return error if "write error" in error else ""
