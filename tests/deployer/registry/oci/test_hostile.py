"""Registries that misbehave: each failure is one clear line, in time, and gives nothing away."""

from __future__ import annotations

import asyncio
import errno
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from services.deployer.registry import parse
from services.deployer.registry.oci import session, transport
from tests.deployer.registry.oci.hostile import DRIP, HANG, Hostile, Request, reply, tags
from tests.deployer.registry.oci.looking import failure, images
from tests.support.patience import patience
from tests.support.ports import free_port


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TIMEOUT", 0.3)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (reply(401), "team/app: access denied (401); it asks for an authentication that is neither Bearer nor Basic"),
        (reply(403), "team/app: access denied (403); it asked for no credentials"),
        (reply(404), "team/app: no such repository (404)"),
        (reply(429), "team/app: too many requests (429); a longer --interval asks less"),
        (reply(500), "team/app: the registry fails (500); see its log if that lasts"),
        (reply(302), "team/app: unexpected status 302"),
        (reply(304), "team/app: unexpected status 304"),
        (reply(200, "<html>"), "team/app: answered something that is not a list of tags"),
        (reply(200, '{"tags": 3}'), "team/app: answered something that is not a list of tags"),
        (reply(200, b"\xff\xfe"), "team/app: answered something that is not a list of tags"),
        (tags(), "none of the tags is a semantic version that is wanted: there are none"),
        (reply(200, '{"tags": null}'), "there are none"),
        (tags("../etc", "1.0.0\n", "x" * 200), "there are none"),
        (b"220 ready\r\n", "cut the connection, or answered something that is not HTTP"),
        (b"", "cut the connection, or answered something that is not HTTP"),
        (reply(200)[:-4], "cut the connection, or answered something that is not HTTP"),
        (tags("1.0.0")[:-10], "cut the connection, or answered something that is not HTTP"),
        (reply(302, Location="https://["), "points to something that is not a URL"),
        (reply(302, Location="file:///etc/passwd"), "points to something that is not a URL"),
        (reply(302, Location="tags/list"), "redirects more than 5 times"),
        (reply(200, b"x", Location="\x80"), "answered something"),
    ],
)
async def test_what_goes_wrong_is_told_in_one_line(hostile: Hostile, answer: bytes, line: str) -> None:
    hostile.answer = lambda request: answer
    assert line in str(await failure(images(hostile)))


@pytest.mark.parametrize("answer", [HANG, DRIP])
async def test_an_answer_that_does_not_end_is_given_up_at_the_deadline(
    hostile: Hostile, answer: bytes, impatient: None
) -> None:
    hostile.answer = lambda request: answer
    async with asyncio.timeout(patience(10)):
        assert "no complete answer within 0.3 s" in str(await failure(images(hostile)))


async def test_the_deadline_is_one_for_redirects_and_tokens_too(hostile: Hostile, impatient: None) -> None:
    realm = f'Bearer realm="{hostile.url}/token"'
    hostile.answer = lambda request: HANG if request.path == "/token" else reply(401, WWW_Authenticate=realm)
    assert "no complete answer within 0.3 s" in str(await failure(images(hostile)))
    assert hostile.requests[-1].path == "/token"


async def test_an_answer_that_is_too_big_is_not_read_to_its_end(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 1 << 20)
    hostile.answer = lambda request: reply(200, b" " * (3 << 20))
    assert "answers with more than 1 MiB" in str(await failure(images(hostile)))


async def test_nobody_at_the_address_is_told() -> None:
    error = await failure(parse(f"img://127.0.0.1:{free_port()}/app"))
    assert "refuses the connection: is it up?" in str(error)
    error = await failure(parse(f"img://localhost:{free_port()}/app"))
    assert "refuses the connection: is it up?" in str(error)


async def test_a_host_that_does_not_exist_is_told() -> None:
    assert "no such host" in str(await failure(parse("img://registry.invalid/app")))


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "its name cannot be looked up (Temporary failure)"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no such host: fix --registry"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be reached (Too many open files)"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "cannot be reached (Network is unreachable)"),
        (OSError("all attempts failed"), "cannot be reached"),
    ],
)
def test_what_is_wrong_here_is_not_put_on_the_registry(problem: OSError, line: str) -> None:
    error = httpx.ConnectError("all attempts failed")
    error.__cause__ = ExceptionGroup("attempts", [problem])
    assert transport.words(error) == line


async def test_a_proxy_that_refuses_is_named(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile.answer = lambda request: reply(403)
    monkeypatch.setenv("HTTPS_PROXY", hostile.url)
    assert "the proxy of HTTPS_PROXY or its like does not connect" in str(await failure(parse("img://a.example/app")))
    assert hostile.requests[0].method == "CONNECT"


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_retry_after_goes_with_the_error(hostile: Hostile, status: int) -> None:
    hostile.answer = lambda request: reply(status, Retry_After="120")
    error = await failure(images(hostile))
    assert error.retry_after == 120
    assert status == 403 or "not asked again for 120 s" in str(error)


async def test_retry_after_may_be_a_date(hostile: Hostile) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    hostile.answer = lambda request: reply(429, Retry_After=moment)
    after = (await failure(images(hostile))).retry_after
    assert after is not None
    assert 1700 < after <= 1800


async def test_a_redirect_to_another_host_carries_no_credentials(
    hostile: Hostile, elsewhere: Hostile, credentials: str
) -> None:
    def answer(request: Request) -> bytes:
        if request.headers.get("authorization") != credentials:
            return reply(401, WWW_Authenticate="Basic")
        return reply(307, Location=f"{elsewhere.url}/elsewhere")

    hostile.answer = answer
    elsewhere.answer = lambda request: tags("1.0.0")
    assert await images(hostile).offered() == ["1.0.0"]
    elsewhere.answer = lambda request: reply(401, WWW_Authenticate="Basic")
    await failure(images(hostile))
    text = str(await failure(images(hostile)))
    assert f"team/app: access denied (401) by {elsewhere.url}, to which it leads; credentials go to" in text
    assert "docker login" not in text
    assert len(elsewhere.requests) == 3
    assert not any("authorization" in request.headers for request in elsewhere.requests)


async def test_this_machine_is_asked_directly_whatever_proxy_is_set(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    hostile.answer = lambda request: tags("1.0.0")
    assert await images(hostile).offered() == ["1.0.0"]


@pytest.mark.parametrize("proxy", ["socks4://127.0.0.1:1", "nonsense://x", "http://127.0.0.1:port"])
async def test_a_proxy_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = await failure(parse("img://registry.invalid/app"))
    assert "a proxy of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or NO_PROXY cannot be used: write http://host:port" in str(
        error
    )
