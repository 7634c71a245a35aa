"""Ending tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_AGAIN = 0.5
"""Seconds until a task that has swallowed a cancellation is cancelled again."""


async def unless_cancelled(call: Awaitable[T]) -> T:
    """Await a call of a library. Raises CancelledError when the current task was cancelled meanwhile.

    Before Python 3.12, asyncio.wait_for, which the bus client uses, swallows a cancellation that arrives together with
    its result: the task would run on, and the task that cancelled it would wait indefinitely.
    """
    task = asyncio.current_task()
    assert task is not None  # only a task awaits
    before = task.cancelling()
    result = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def cancel(*tasks: asyncio.Future[Any], again: float = CANCEL_AGAIN) -> None:
    """Cancel tasks and wait until they have ended, whatever their result is. Give `again` seconds for their clean-up.

    Cancels more than once: before Python 3.12, asyncio.wait_for of a library that is not called through
    `unless_cancelled` swallows a cancellation that arrives together with its result.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # taken note of: asyncio would log it as never retrieved
