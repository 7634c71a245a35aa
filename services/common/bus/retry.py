"""Waiting for a leader: while the servers of a cluster elect one, they refuse or say nothing, and that passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors

RETRY = 0.2
NOBODY = (
    nats.errors.NoRespondersError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
    nats.errors.TimeoutError,
)

T = TypeVar("T")


async def answered(call: Callable[[], Awaitable[T]], patience: float) -> T:
    """What a call gives, made again for `patience` seconds while nobody answers. Raises the client's errors."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            return await call()
        except NOBODY:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(RETRY)
