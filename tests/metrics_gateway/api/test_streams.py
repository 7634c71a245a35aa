"""Server-sent events: resume, heartbeats, readers that do not read, limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest

from schemas import events as e
from schemas import subjects
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import Stream
from services.common.jetstream.provisioning import ensure_streams
from services.metrics_gateway.api import server, streams
from services.metrics_gateway.api.stream_routes import Gap, beginning
from services.metrics_gateway.api.streams import COMMENT, kept_alive, message
from tests.support.gateway_process import Gateway, publishing

DEADLINE = 30.0


async def publish(bus: Bus, instance: str, *replicas: str, app: str = "shop") -> None:
    async with publishing(bus, "deployer", instance) as deployer:
        for replica in replicas:
            deployer.record(e.ReplicaReady(time.time(), "d", replica, 1.0), app)


def read(block: str) -> dict[str, str]:
    """The fields of one event."""
    return dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)


@contextlib.asynccontextmanager
async def following(gateway: Gateway, path: str, **headers: str) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    """The events of a stream as they come."""
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE) as client,
        client.stream(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _blocks(answer)


async def _blocks(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    rest = ""
    async for text in answer.aiter_text():
        *blocks, rest = (rest + text).split("\n\n")
        for block in blocks:
            fields = read(block)
            if "data" in fields:
                yield fields


async def replicas(coming: AsyncIterator[dict[str, str]], count: int) -> list[str]:
    """The replicas that the next events tell of."""
    return [json.loads((await anext(coming))["data"])["details"]["replica"] for _ in range(count)]


async def test_events_come_as_they_happen_and_a_reader_goes_on_after_the_last_one(gateway: Gateway, bus: Bus) -> None:
    async with following(gateway, "/api/events/stream?kind=ReplicaReady&start=1") as coming:
        await publish(bus, "d-1", "a", "b")
        await publish(bus, "d-2", "x", app="other")
        first, second, third = await anext(coming), await anext(coming), await anext(coming)
    assert (first.get("id"), second["event"]) == (None, "ReplicaReady")
    assert json.loads(third["data"])["app"] == "other"
    await publish(bus, "d-3", "c")
    async with following(gateway, "/api/events/stream?kind=ReplicaReady", last_event_id=second["id"]) as coming:
        assert await replicas(coming, 2) == ["x", "c"]
    async with following(gateway, "/api/events/stream?app=shop&kind=ReplicaReady&start=1") as coming:
        assert await replicas(coming, 3) == ["a", "b", "c"]


async def test_without_a_start_only_what_comes_next_is_told(gateway: Gateway, bus: Bus) -> None:
    await publish(bus, "d-1", "a")
    async with following(gateway, "/api/events/stream?app=shop") as coming:
        telling = asyncio.create_task(replicas(coming, 1))
        for number in range(100):
            if telling.done():
                break
            await publish(bus, f"n-{number}", "new")
        assert await telling == ["new"]


async def test_a_stream_that_is_not_to_be_followed_ends_where_the_log_ends(gateway: Gateway, bus: Bus) -> None:
    await publish(bus, "d-1", "a", "b")
    async with following(gateway, "/api/events/stream?start=1&kind=ReplicaReady&follow=false") as coming:
        assert [json.loads(one["data"])["details"]["replica"] async for one in coming] == ["a", "b"]
    async with following(gateway, "/api/events/stream?follow=false") as coming:
        assert [one async for one in coming] == []


async def test_details_are_told_to_who_asks_for_them(gateway: Gateway, bus: Bus) -> None:
    async with publishing(bus, "proxy", "p-1") as proxy:
        proxy.record(e.ConnectionAccepted(1.0, 7, 80), "shop")
    async with following(gateway, "/api/events/stream?start=1&kind=ConnectionAccepted&follow=false") as coming:
        (one,) = [json.loads(block["data"]) async for block in coming]
    assert one["details"] == {"connection": 7, "port": 80}
    async with following(gateway, "/api/events/stream?app=shop&start=1&follow=false") as coming:
        assert [block async for block in coming] == []


async def test_the_stream_of_views_tells_all_at_first_and_then_what_changes(gateway: Gateway, bus: Bus) -> None:
    async with following(gateway, "/api/stream") as coming:
        first = [(await anext(coming))["event"] for _ in range(5)]
        assert first == ["status", "containers", "backends", "deployments", "events"]
        await publish(bus, "d-1", "a")
        async with asyncio.timeout(DEADLINE):
            changed = await anext(one async for one in coming if one["event"] == "events")
    assert json.loads(changed["data"])["events"][0]["details"]["replica"] == "a"


async def test_open_streams_do_not_keep_a_gateway_from_stopping(gateway: Gateway) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for path in ("/api/stream", "/api/events/stream"):
            await stack.enter_async_context(following(gateway, path))
        assert await asyncio.to_thread(gateway.stop) == 0
    assert "Cancel" not in gateway.log.read_text()
    assert "Traceback" not in gateway.log.read_text()


async def test_too_many_streams_are_refused_and_room_is_made_by_those_that_end(gateway: Gateway) -> None:
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE, limits=limits) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(streams.MOST):
            await stack.enter_async_context(client.stream("GET", "/api/stream"))
        refused = await client.get("/api/stream")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert (await client.get("/api/status")).status_code == 200
    await gateway.until("/api/stream?follow=false", lambda got: got.status_code == 200)


async def test_a_reader_that_does_not_read_is_cut_off_and_harms_nobody(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READ_TIMEOUT", 0.5)
    stopping, cut = asyncio.Event(), asyncio.Event()

    async def flood(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(_send_for_ever(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        cut.set()

    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(flood, listener, stopping))
    with socket.create_connection(listener.getsockname()) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await cut.wait()
    stopping.set()
    await serving


async def _send_for_ever(send: Any) -> None:
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await asyncio.sleep(0)


async def test_ten_scrapers_at_once_all_get_the_metrics_beside_one_that_never_reads(gateway: Gateway, bus: Bus) -> None:
    async with publishing(bus, "proxy", "p-1") as proxy:
        for port in range(1, 400):
            proxy.record(e.ConnectionAccepted(1.0, port, port), "shop")
    await gateway.until("/metrics", lambda got: 'proxy_port="399"' in got.text)
    with socket.create_connection(("127.0.0.1", gateway.settings.admin_port)) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE) as client:
            for _ in range(3):
                answers = await asyncio.gather(*(client.get("/metrics") for _ in range(10)))
                assert {answer.status_code for answer in answers} == {200}
                assert all('proxy_port="399"' in answer.text for answer in answers)
        assert gateway.stop() == 0


async def test_silence_is_filled_with_comments_until_the_end() -> None:
    stopping = asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield b"one"
        await asyncio.sleep(3600)

    coming = kept_alive(slow(), stopping, heartbeat=0.01)
    assert [await anext(coming) for _ in range(4)] == [b"retry: 2000\n\n", b"one", COMMENT, COMMENT]
    stopping.set()
    assert [chunk async for chunk in coming if chunk != COMMENT] == []


def test_a_message_is_one_event_whatever_is_in_it() -> None:
    text = message({"text": "a\nid: 7\r\n\ndata: b"}, "kind", "12").decode()
    assert text.count("\n\n") == 1
    assert text.startswith("id: 12\nevent: kind\ndata: ")


@pytest.mark.parametrize(
    ("first", "start", "gap"),
    [
        (0, 21, None),
        (21, 21, None),
        (10, 10, None),
        (15, 15, None),
        (1, 10, Gap(1, 9)),
        (99, 21, Gap(21, 98)),
    ],
)
def test_what_the_log_no_longer_holds_is_told_as_a_gap(first: int, start: int, gap: Gap | None) -> None:
    assert beginning(Stream("", 10, 20), first) == (start, gap)


async def test_a_resume_beyond_the_end_of_the_log_tells_so_and_goes_on(gateway: Gateway, bus: Bus) -> None:
    async with following(gateway, "/api/events/stream?app=shop", last_event_id="1000000") as coming:
        assert (await anext(coming))["event"] == "gap"
        await publish(bus, "d-1", "a")
        assert await replicas(coming, 1) == ["a"]


async def test_a_stream_ends_when_the_log_is_another_one_and_goes_on_with_a_gap(gateway: Gateway, bus: Bus) -> None:
    for number in range(5):
        await publish(bus, f"d-{number}", "old")
    path = "/api/events/stream?app=shop&kind=ReplicaReady"
    async with following(gateway, path + "&start=1") as coming:
        old = [await anext(coming) for _ in range(5)]
        await bus.jetstream.delete_stream(subjects.STREAM)
        await ensure_streams(bus)
        async with asyncio.timeout(DEADLINE):
            assert [one async for one in coming] == []
    async with following(gateway, path, last_event_id=old[-1]["id"]) as coming:
        assert (await anext(coming))["event"] == "gap"
        await publish(bus, "d-9", "new")
        assert await replicas(coming, 1) == ["new"]
