"""Who connects to the admin port and says nothing, or too much, costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.metrics_gateway.api import server, streams
from tests.support.gateway_process import Gateway, Launch
from tests.support.nats_server import NatsServer

DEADLINE = 30.0
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers once it has the whole body; on /wait it answers in part and waits for the end."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.disconnect":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/wait":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.body", "body": b"all"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    stopping = asyncio.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    task = asyncio.create_task(server.serve(reading, listener, stopping))
    try:
        yield address
    finally:
        stopping.set()
        await task


async def until_cut(address: tuple[str, int], *said: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    for part in said:
        writer.write(part)
        if part.endswith(b"\r\n\r\n") and b"POST" not in part:
            answer += await reader.readuntil(b"all")
    try:
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionResetError):
                answer += await reader.read()
    finally:
        writer.close()
    return answer


@pytest.mark.parametrize(
    "said",
    [
        (),
        (b"GET / HT",),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n", b"12345"),
        (REQUEST, b"GET / HTTP"),
    ],
)
async def test_a_request_that_does_not_come_whole_in_time_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.5)
    async with serving() as address:
        assert (await until_cut(address, *said)).count(b"all") == said.count(REQUEST)
    assert not caplog.records


async def test_a_request_that_comes_byte_by_byte_has_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.5)
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\n")
        closing = asyncio.create_task(reader.read())
        async with asyncio.timeout(DEADLINE):
            while not closing.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            assert await closing == b""
        writer.close()


async def test_an_answer_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.2)
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST.replace(b"/ ", b"/wait ", 1))
        await reader.readuntil(b"begun")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n"), 1.0)
        writer.close()


async def test_beyond_the_limit_a_new_connection_takes_the_place_of_the_one_without_a_request_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 8)
    async with serving() as address:
        busy_reader, busy = await asyncio.open_connection(*address)
        busy.write(REQUEST.replace(b"/ ", b"/wait ", 1))
        await busy_reader.readuntil(b"begun")
        silent = [await asyncio.open_connection(*address) for _ in range(30)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", timeout=DEADLINE) as client:
            assert (await client.get("/")).text == "all"
        async with asyncio.timeout(DEADLINE):
            for reader, _ in silent[:20]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
        assert not silent[-1][0].at_eof()
        assert not busy_reader.at_eof()
        for _, writer in [*silent, (busy_reader, busy)]:
            writer.close()


async def test_the_gateway_may_open_more_files_than_a_shell_gives(launch: Launch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        gateway = launch()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await gateway.until_ready()
    assert open_files(gateway.pid) == min(server.FILES, hard)


def open_files(pid: int) -> int:
    """So many may a process open."""
    (line,) = [one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in one]
    return int(line.split()[3])


async def test_of_many_streams_at_once_only_so_many_are_admitted(gateway: Gateway) -> None:
    async with contextlib.AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE, limits=limits)
        )
        opening = [stack.enter_async_context(client.stream("GET", "/api/stream")) for _ in range(streams.MOST * 2)]
        answers = await asyncio.gather(*opening)
        assert [one.status_code for one in answers].count(200) == streams.MOST
        assert {one.status_code for one in answers} == {200, 503}


async def test_a_client_that_leaves_at_once_takes_up_no_stream(gateway: Gateway) -> None:
    for _ in range(streams.MOST * 3):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.admin_port)
        writer.write(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.close()
    await gateway.until("/api/stream?follow=false", lambda got: got.status_code == 200)


@pytest.mark.parametrize("path", ["/api/stream", "/api/events/stream"])
async def test_a_page_of_another_site_gets_no_stream(client: httpx.AsyncClient, path: str) -> None:
    for site, status in (("cross-site", 403), ("Cross-Site", 403), ("same-origin", 200), ("none", 200)):
        answer = await client.get(f"{path}?follow=false", headers={"sec-fetch-site": site})
        assert answer.status_code == status, site


async def test_while_the_bus_is_away_a_stream_of_events_is_503_and_one_of_views_goes_on(
    launch: Launch, nats_server: NatsServer
) -> None:
    gateway = launch()
    await gateway.until_ready()
    nats_server.kill()
    answer = await gateway.until("/api/events/stream", lambda got: got.status_code != 200)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"]
    assert (await gateway.get("/api/stream?follow=false")).status_code == 200
    gateway.stop()
    assert "Traceback" not in gateway.log.read_text()
