"""The bus against a real nats-server."""

from __future__ import annotations

import asyncio
import time

import pytest

from schemas import codec, subjects
from schemas.events import AnyEvent, EventsDropped, ServiceStopped
from schemas.routing import Route
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.bus.permission_errors import PermissionErrors
from services.common.delivery.outbox import Outbox
from services.common.errors import DeniedError
from services.common.jetstream.log_reader import read
from services.common.jetstream.watch import Change, Synced, watch_keys
from tests.support.nats_server import NatsServer
from tests.support.patience import patience
from tests.support.streams import listening


async def _events(bus: Bus, count: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    async with asyncio.timeout(patience(20)):
        async for entries in read(bus):
            for entry in entries:
                batch = codec.decode(entry.payload).batch
                found += [(batch.sequence, e.reason) for e in batch.events if isinstance(e, ServiceStopped)]
            if len(found) >= count:
                return found
    raise AssertionError


async def test_events_recorded_while_the_bus_is_dead_arrive_once_and_in_order(
    bus: Bus, nats_server: NatsServer
) -> None:
    outbox = Outbox(bus, "health", "host", "instance")
    running = asyncio.create_task(outbox.run())
    for n in range(10):
        outbox.record(ServiceStopped(time.time(), f"before {n}"))
    assert await outbox.flush(5)
    nats_server.kill()
    for n in range(2000):
        outbox.record(ServiceStopped(time.time(), f"during {n}"))
    nats_server.start()
    assert await outbox.flush(20)
    running.cancel()
    found = await _events(bus, 2010)
    assert [reason for _, reason in found] == [f"before {n}" for n in range(10)] + [f"during {n}" for n in range(2000)]


async def test_a_full_outbox_drops_the_oldest_and_says_how_many(bus: Bus, nats_server: NatsServer) -> None:
    nats_server.kill()
    outbox = Outbox(bus, "health", "host", "instance", limit=50_000)
    for n in range(20_000):
        outbox.record(ServiceStopped(time.time(), f"event {n}"))
    assert outbox.dropped > 0
    nats_server.start()
    running = asyncio.create_task(outbox.run())
    assert await outbox.flush(20)
    running.cancel()
    events: list[AnyEvent] = []
    async with asyncio.timeout(patience(20)):
        async for entries in read(bus):
            for entry in entries:
                events += codec.decode(entry.payload).batch.events
            if entries[-1].pending == 0:
                break
    kept = sum(isinstance(event, ServiceStopped) for event in events)
    told = sum(event.count for event in events if isinstance(event, EventsDropped))
    assert kept + told == 20_000
    assert told == outbox.dropped


async def test_a_watch_tells_again_what_is_true_after_the_bus_was_lost(bus: Bus, nats_server: NatsServer) -> None:
    await bus.put(subjects.ROUTES, "host.web.80", Route("web", 80, 1))
    await bus.put(subjects.ROUTES, "other.web.80", Route("web", 80, 1))
    watch = watch_keys(bus, subjects.ROUTES, "host.>")
    seen = []
    async with asyncio.timeout(patience(20)):
        seen += [await anext(watch), await anext(watch)]
        nats_server.kill()
        nats_server.start()
        seen += [await anext(watch), await anext(watch)]
        await bus.delete(subjects.ROUTES, "host.web.80")
        seen += [await anext(watch)]
    await watch.aclose()
    keys = [change.key for change in seen if isinstance(change, Change)]
    assert keys == ["host.web.80"] * 3
    assert isinstance(seen[1], Synced)
    assert isinstance(seen[3], Synced)
    assert seen[4] == Change("host.web.80", None)


async def test_a_watch_that_ends_or_starts_again_leaves_no_subscription_behind(
    bus: Bus, nats_server: NatsServer
) -> None:
    await bus.put(subjects.ROUTES, "host.web.80", Route("web", 80, 1))
    before = len(bus.client._subs)
    watch = watch_keys(bus, subjects.ROUTES, "host.>")
    async with asyncio.timeout(patience(20)):
        assert isinstance(await anext(watch), Change)
        assert isinstance(await anext(watch), Synced)
        nats_server.kill()
        nats_server.start()
        assert isinstance(await anext(watch), Change)
        assert len(bus.client._subs) == before + 1
    await watch.aclose()
    assert len(bus.client._subs) == before


async def test_a_reader_that_is_cancelled_leaves_no_task_behind(bus: Bus) -> None:
    before = asyncio.all_tasks()
    subscriptions = len(bus.client._subs)
    reading = asyncio.create_task(_events(bus, 1))
    async with asyncio.timeout(patience(20)):
        while len(bus.client._subs) == subscriptions:  # noqa: ASYNC110 - the reader's own step
            await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_what_concerns_the_whole_service_keeps_its_place_among_the_events_of_its_apps(bus: Bus) -> None:
    outbox = Outbox(bus, "health", "host", "instance")
    recorded = [("first", subjects.NO_APP), ("second", "web"), ("third", "api"), ("last", subjects.NO_APP)]
    for reason, app in recorded:
        outbox.record(ServiceStopped(time.time(), reason), app)
    running = asyncio.create_task(outbox.run())
    assert await outbox.flush(20)
    running.cancel()
    assert [reason for _, reason in await _events(bus, 4)] == [reason for reason, _ in recorded]


async def test_closing_while_the_bus_is_away_is_no_error(nats_server: NatsServer) -> None:
    connection = await Bus.connect("health", Credentials([nats_server.url]))
    nats_server.kill()
    await connection.until_lost()
    await connection.client.subscribe("longshore.test")  # waits for the bus
    await connection.close()


async def test_a_cancelled_start_leaves_no_attempt_to_connect_behind() -> None:
    connected = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()

    async with listening(never_answer) as port:
        connecting = asyncio.create_task(Bus.connect("health", Credentials([f"nats://127.0.0.1:{port}"])))
        async with asyncio.timeout(patience(20)):
            await connected.wait()
            connecting.cancel()
            await asyncio.wait({connecting})
        assert [task for task in asyncio.all_tasks() if "Client.connect" in repr(task)] == []


async def test_a_refused_call_has_ended_when_the_refusal_is_raised() -> None:
    errors, ended = PermissionErrors("health"), False

    async def call() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended = True

    calling = asyncio.create_task(errors.unless_denied("bucket", call()))
    await asyncio.sleep(0)
    assert errors.on_denied("$KV.bucket.key")
    with pytest.raises(DeniedError):
        await calling
    assert ended


async def test_a_flush_is_over_when_the_server_has_all_that_was_sent(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's ping overtook a subscription, and a request found no responder."""
    transport, written = bus.client._transport, bytearray()
    assert transport

    def write(data: bytes) -> None:
        written.extend(data)
        original(data)

    def writelines(lines: list[bytes]) -> None:
        written.extend(b"".join(lines))
        originals(lines)

    original, originals = transport.write, transport.writelines
    monkeypatch.setattr(transport, "write", write)
    monkeypatch.setattr(transport, "writelines", writelines)
    await bus.client.subscribe("a.subject")
    await bus.client.flush()
    assert 0 <= written.find(b"SUB a.subject") < written.find(b"PING")
