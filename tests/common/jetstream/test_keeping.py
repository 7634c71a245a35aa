"""What somebody deletes on the bus comes back."""

from __future__ import annotations

import asyncio

import nats.js.errors
import pytest
from structlog.testing import capture_logs

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.jetstream import stream_guard
from services.common.jetstream.log_reader import describe
from tests.support.patience import patience


async def test_a_stream_that_is_deleted_is_created_again_with_one_line(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_guard, "INTERVAL", 0.05)
    before = await describe(bus)
    with capture_logs() as lines:
        task = asyncio.create_task(stream_guard.recreate_missing_stream(bus))
        await bus.jetstream.delete_stream(subjects.STREAM)
        async with asyncio.timeout(patience(20)):
            while not lines:  # noqa: ASYNC110 - a condition without an event
                await asyncio.sleep(0.01)
        assert (await describe(bus)).created > before.created
        await bus.jetstream.stream_info(subjects.STREAM)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [line["event"] for line in lines] == ["the log's stream was deleted: created again"]


async def test_without_the_right_to_do_so_it_is_told(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_guard, "INTERVAL", 0.05)
    await bus.jetstream.delete_stream(subjects.STREAM)
    await bus.jetstream.add_stream(name="OTHER", subjects=["longshore.events.proxy.>"])
    with capture_logs() as lines:
        task = asyncio.create_task(stream_guard.recreate_missing_stream(bus))
        async with asyncio.timeout(patience(20)):
            while not lines:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert lines[0]["event"] == "the log's stream is gone and cannot be created"
    with pytest.raises(nats.js.errors.NotFoundError):
        await bus.jetstream.stream_info(subjects.STREAM)
