"""One probe against real servers that answer well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from schemas.routing import Check, Replica
from services.health.probe import Outcome, Prober, is_own_end
from tests.health.origins import BROKEN, HANG, OK, Origin, answer, origin
from tests.support.ports import free_port

HTTP = Check("/health?deep=1", timeout=5.0)
TCP = Check(timeout=5.0)
IMPATIENT = Check("/health", timeout=0.05)


@pytest.fixture
async def site() -> AsyncIterator[Origin]:
    async with origin() as site:
        yield site


async def probe(site: Origin, check: Check = HTTP) -> Outcome:
    async with Prober(4) as prober:
        return await prober.probe(site.replica(check=check))


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "301 Moved Permanently", "399 Odd"])
async def test_any_status_from_200_to_399_passes(site: Origin, status: str) -> None:
    site.reply = answer(status, body=b"")
    outcome = await probe(site)
    assert outcome.passed
    assert outcome.reason == ""
    assert 0 < outcome.latency < 5


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oops", "503 Service Unavailable"])
async def test_any_other_status_fails_and_is_the_reason(site: Origin, status: str) -> None:
    site.reply = answer(status)
    assert (await probe(site)).reason == f"status {status[:3]}"


async def test_a_redirect_passes_and_is_not_followed(site: Origin) -> None:
    async with origin() as elsewhere:
        site.reply = answer("302 Found", f"Location: http://127.0.0.1:{elsewhere.port}/\r\n")
        assert (await probe(site)).passed
        assert elsewhere.connections == 0
    assert len(site.requests) == 1


async def test_the_request_asks_for_the_path_and_names_its_host(site: Origin) -> None:
    await probe(site)
    lines = site.requests[0].split("\r\n")
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{site.port}" in lines
    assert "Connection: close" in lines


async def test_each_probe_is_a_new_connection_without_the_cookies_of_the_last(site: Origin) -> None:
    site.reply = answer("200 OK", "Set-Cookie: session=1\r\n")
    async with Prober(4) as prober:
        for _ in range(3):
            assert (await prober.probe(site.replica(check=HTTP))).passed
    assert site.connections == 3
    assert not any("cookie" in request.lower() for request in site.requests)


async def test_proxies_of_the_environment_are_not_used(site: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    assert (await probe(site)).passed


@pytest.mark.parametrize("start", [HANG, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_an_answer_that_is_not_complete_in_time_fails(site: Origin, start: bytes) -> None:
    site.reply = start
    assert (await probe(site, IMPATIENT)).reason == "timeout"


async def test_a_body_without_end_passes_once_enough_was_read(site: Origin) -> None:
    site.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + bytes(200_000)
    assert (await probe(site)).passed


async def test_a_closed_port_is_refused() -> None:
    async with Prober(4) as prober:
        for check in (HTTP, TCP):
            replica = Replica("web", "web-1", "1", "127.0.0.1", free_port(), check)
            assert (await prober.probe(replica)).reason == "refused"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(HANG, "closed"), (b"HTTP/1.1 200 OK\r\n", "closed"), (b"SSH-2.0-hello\r\n\r\n", "bad answer"), (OK, "")],
)
async def test_an_origin_that_closes_after_its_answer_is_judged_by_the_answer(
    site: Origin, reply: bytes, reason: str
) -> None:
    site.reply, site.close = reply, True
    assert (await probe(site)).reason == reason


async def test_an_origin_that_cuts_the_connection_is_a_reset(site: Origin) -> None:
    site.reply, site.reset = HANG, True
    assert (await probe(site)).reason == "reset"


async def test_a_tcp_probe_passes_when_the_port_accepts_and_sends_nothing(site: Origin) -> None:
    site.reply = BROKEN
    assert (await probe(site, TCP)).passed
    assert site.requests == []


async def test_a_tcp_probe_gives_up_when_nobody_accepts_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.1", port))]
        async with Prober(4) as prober:
            reason = (await prober.probe(Replica("web", "web-1", "1", "127.0.0.1", port, Check(timeout=0.1)))).reason
        for client in waiting:
            client.close()
    assert reason == "timeout"


async def test_a_connection_with_itself_is_told_from_one_with_a_server(site: Origin) -> None:
    alone = socket.socket()
    alone.bind(("127.0.0.1", 0))
    alone.connect(alone.getsockname())
    _, writer = await asyncio.open_connection(sock=alone)
    _, real = await asyncio.open_connection("127.0.0.1", site.port)
    assert is_own_end(writer)
    assert not is_own_end(real)
    for one in (writer, real):
        one.close()
        await one.wait_closed()


@pytest.mark.parametrize(
    ("host", "port", "path", "reason"),
    [
        ("127.0.0.1", 70000, "", "bad address"),
        ("127.0.0.1", 70000, "/", "bad address"),
        ("127.0.0.1", 80, "nope", "bad path"),
        ("host.invalid", 80, "/", "unresolved"),
        ("host.invalid", 80, "", "unresolved"),
        ("x" * 300, 80, "", "bad address"),
    ],
)
async def test_an_impossible_address_is_a_failed_probe_with_a_reason(
    host: str, port: int, path: str, reason: str
) -> None:
    async with Prober(4) as prober:
        outcome = await prober.probe(Replica("web", "web-1", "1", host, port, Check(path)))
    assert outcome.reason == reason


async def test_no_more_probes_run_at_once_than_allowed(site: Origin) -> None:
    site.delay = 0.05
    async with Prober(2) as prober:
        probes = [asyncio.create_task(prober.probe(site.replica(check=HTTP))) for _ in range(6)]
        assert all(outcome.passed for outcome in await asyncio.gather(*probes))
    assert site.connections == 6
    assert site.most_at_once == 2
