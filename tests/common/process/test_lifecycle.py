"""A service's life on the log: it starts, beats, stops - or fails and says why."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from schemas import codec
from schemas.events import AnyEvent, ServiceStarted, ServiceStopped
from services.common.bus.connection import Bus
from services.common.config.settings import Settings
from services.common.errors import SettingsError
from services.common.jetstream.log_reader import read
from services.common.process import lifecycle
from services.common.process.lifecycle import Context
from tests.support.nats_server import NatsServer
from tests.support.patience import patience


async def _log(bus: Bus) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    async for entries in read(bus, wait=False):
        for entry in entries:
            events += codec.decode(entry.payload).batch.events
    return events


async def test_a_service_says_when_it_starts_and_stops(bus: Bus, nats_server: NatsServer) -> None:
    async def main(context: Context) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await context.stopping.wait()

    await lifecycle._run("health", "health", Settings(nats_url=[nats_server.url]), main)
    started, stopped = await _log(bus)
    assert isinstance(started, ServiceStarted)
    assert (started.unit, started.pid) == ("health", os.getpid())
    assert isinstance(stopped, ServiceStopped)
    assert stopped.reason == "stopped"


async def test_a_failing_task_stops_the_service_with_its_error(bus: Bus, nats_server: NatsServer) -> None:
    async def fail() -> None:
        raise SettingsError("the disk is full")

    async def main(context: Context) -> None:
        context.spawn(fail(), "writer")
        await context.stopping.wait()

    with pytest.raises(SettingsError, match="the disk is full"):
        await lifecycle._run("health", "health", Settings(nats_url=[nats_server.url]), main)
    stopped = (await _log(bus))[-1]
    assert isinstance(stopped, ServiceStopped)
    assert stopped.reason == "the disk is full"


async def test_a_service_that_does_not_stop_in_time_is_given_up(bus: Bus, nats_server: NatsServer) -> None:
    async def main(context: Context) -> None:
        context.stopping.set()
        await asyncio.Event().wait()

    await lifecycle._run("health", "health", Settings(nats_url=[nats_server.url]), main, stop_timeout=0.1)
    assert isinstance((await _log(bus))[-1], ServiceStopped)


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same(nats_server: NatsServer) -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.sleep(600)

    async def main(context: Context) -> None:
        context.spawn(stubborn(), "stubborn")
        await asyncio.sleep(0)
        context.stopping.set()

    async with asyncio.timeout(patience(20)):
        await lifecycle._run("health", "health", Settings(nats_url=[nats_server.url]), main)
    assert swallowed == 1
