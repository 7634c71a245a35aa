"""Ending tasks."""

from __future__ import annotations

import asyncio
from typing import Any

CANCEL_AGAIN = 0.5
"""Seconds until a task that has swallowed a cancellation is cancelled again."""


async def cancel(*tasks: asyncio.Future[Any], again: float = CANCEL_AGAIN) -> None:
    """Cancel tasks and wait until they have ended, whatever their result is. Give `again` seconds for their clean-up.

    Cancels more than once: before Python 3.12, asyncio.wait_for, which the bus client uses, swallows a cancellation
    that arrives together with its result.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # taken note of: asyncio would log it as never retrieved
