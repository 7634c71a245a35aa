"""Waiting for a leader: while the servers of a cluster elect one, they refuse or say nothing, and that passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors

RETRY = 0.2
NO_LEADER_ERRORS = (
    nats.errors.NoRespondersError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
    nats.errors.TimeoutError,
)

T = TypeVar("T")


async def retry_until_answered(call: Callable[[], Awaitable[T]], retry_for: float) -> T:
    """What a call gives, made again for `retry_for` seconds while nobody answers. Raises the client's errors."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + retry_for
    while True:
        try:
            return await call()
        except NO_LEADER_ERRORS:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(RETRY)
