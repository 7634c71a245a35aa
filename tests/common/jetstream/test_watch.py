"""Watching a key-value bucket: what is there is told before Synced, whatever else happens on the bus."""

from __future__ import annotations

import asyncio
import contextlib

from schemas import subjects
from schemas.routing import Route
from services.common.bus.connection import Bus
from services.common.jetstream.watch import Change, Synced, watch_keys
from tests.support.patience import patience

KEYS = {f"host.web.{port}" for port in range(8000, 8020)}


async def test_everything_that_was_there_is_told_before_synced(bus: Bus) -> None:
    for key in KEYS:
        await bus.put(subjects.ROUTES, key, Route("web", 80, 1))
    done = asyncio.Event()
    writing = asyncio.create_task(_write_until(done, bus))
    told = [keys for _ in range(20) for keys in await asyncio.gather(*(_until_synced(bus) for _ in range(20)))]
    done.set()
    await writing
    assert [KEYS - keys for keys in told if KEYS - keys] == []


async def test_a_watch_that_ended_leaves_no_consumer_on_the_server(bus: Bus) -> None:
    await bus.put(subjects.ROUTES, "host.web.8000", Route("web", 80, 1))
    await _until_synced(bus)
    async with asyncio.timeout(patience(30)):
        while await bus.jetstream.consumers_info(f"KV_{subjects.ROUTES}"):  # noqa: ASYNC110 - the server says nothing
            await asyncio.sleep(0.02)


async def test_what_is_deleted_while_a_watch_begins_does_not_keep_it_from_being_synced(bus: Bus) -> None:
    async def come_and_go() -> None:
        for count in range(300):
            await bus.put(subjects.ROUTES, f"host.gone.{count}", Route("gone", 80, 1))
            await bus.delete(subjects.ROUTES, f"host.gone.{count}")

    changing = asyncio.create_task(come_and_go())
    async with asyncio.timeout(patience(60)):
        while not changing.done():
            await _until_synced(bus)
    await changing


async def _until_synced(bus: Bus) -> set[str]:
    told = set()
    async with contextlib.aclosing(watch_keys(bus, subjects.ROUTES, "host.>")) as changes:
        async for change in changes:
            if isinstance(change, Synced):
                break
            if isinstance(change, Change) and change.value is not None:
                told.add(change.key)
    return told


async def _write_until(done: asyncio.Event, bus: Bus) -> None:
    while not done.is_set():
        for key in KEYS:
            await bus.put(subjects.ROUTES, key, Route("web", 80, 2))
