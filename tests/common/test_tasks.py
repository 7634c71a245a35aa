"""Ending tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc

from services.common import tasks
from tests.support.patience import patience


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(patience(20)):
        await tasks.cancel(task)
    assert task.cancelled()


async def test_the_error_of_a_task_that_has_ended_is_not_reported_again() -> None:
    async def failing() -> None:
        raise ValueError

    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await tasks.cancel(task)
    del task
    gc.collect()
    assert reported == []
