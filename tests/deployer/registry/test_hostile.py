"""Registries that misbehave: each failure is one clear line, in time, and gives nothing away."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from services.common.errors import RegistryError
from services.deployer.registry import parse
from services.deployer.registry.oci import repository, session, transport
from tests.conftest import free_port
from tests.deployer.registry.hostile import DRIP, HANG, Hostile, Request, reply, tags
from tests.deployer.registry.looking import failure, images

DIGEST = f"sha256:{hashlib.sha256(b'an image').hexdigest()}"


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
        (reply(200, "<html>"), "team/app: answered something that is no list of tags"),
        (reply(200, '{"tags": 3}'), "team/app: answered something that is no list of tags"),
        (reply(200, b"\xff\xfe"), "team/app: answered something that is no list of tags"),
        (tags(), "none of the tags is a semantic version that is wanted: there are none"),
        (reply(200, '{"tags": null}'), "there are none"),
        (tags("../etc", "1.0.0\n", "x" * 200), "there are none"),
        (b"220 ready\r\n", "cut the connection, or answered something that is not HTTP"),
        (b"", "cut the connection, or answered something that is not HTTP"),
        (reply(200)[:-4], "cut the connection, or answered something that is not HTTP"),
        (tags("1.0.0")[:-10], "cut the connection, or answered something that is not HTTP"),
        (reply(302, Location="https://["), "points to something that is no URL"),
        (reply(302, Location="file:///etc/passwd"), "points to something that is no URL"),
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
    async with asyncio.timeout(10):
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


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_goes_with_the_error(hostile: Hostile, status: int) -> None:
    hostile.answer = lambda request: reply(status, Retry_After="120")
    error = await failure(images(hostile))
    assert error.retry_after == 120
    assert "not asked again for 120 s" in str(error)


async def test_retry_after_may_be_a_date(hostile: Hostile) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    hostile.answer = lambda request: reply(429, Retry_After=moment)
    after = (await failure(images(hostile))).retry_after
    assert after is not None
    assert 1700 < after <= 1800


# --- pages ---


async def test_pages_are_followed_by_relative_and_absolute_links(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        match request.query.get("last"):
            case None:
                return tags("1.0.0", Link='</v2/team/app/tags/list?last=a&n=1>; rel="next"')
            case "a":
                absolute = f"<{hostile.url}/v2/team/app/tags/list?last=b>; rel=next"
                return tags("1.2.0", Link=f'<https://elsewhere.invalid/>; rel="first", {absolute}')
            case _:
                return tags("1.1.0", Link="nonsense; rel=next")

    hostile.answer = answer
    assert await images(hostile).offered() == ["1.2.0", "1.1.0", "1.0.0"]


async def test_pages_without_end_are_an_error(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "MAX_PAGES", 5)
    hostile.answer = lambda request: tags("1.0.0", Link='<list?again>; rel="next"')
    assert "does not end after 5 pages" in str(await failure(images(hostile)))
    assert len(hostile.requests) == 5


async def test_a_page_on_another_host_is_read_without_credentials(
    hostile: Hostile, elsewhere: Hostile, credentials: str
) -> None:
    def answer(request: Request) -> bytes:
        if request.headers.get("authorization") != credentials:
            return reply(401, WWW_Authenticate='Basic realm="a test"')
        return tags("1.0.0", Link=f'<{elsewhere.url}/more>; rel="next"')

    hostile.answer = answer
    elsewhere.answer = lambda request: tags("1.1.0")
    assert await images(hostile).offered() == ["1.1.0", "1.0.0"]
    elsewhere.answer = lambda request: reply(401, WWW_Authenticate='Basic realm="give me"')
    assert "access denied (401)" in str(await failure(images(hostile)))
    assert not any("authorization" in request.headers for request in elsewhere.requests)


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
    assert len(elsewhere.requests) == 2
    assert not any("authorization" in request.headers for request in elsewhere.requests)


# --- conditional requests ---


async def test_tags_that_have_not_changed_are_not_sent_again(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        return reply(304) if request.headers.get("if-none-match") == '"a"' else tags("1.0.0", ETag='"a"')

    hostile.answer = answer
    source = images(hostile)
    assert [await source.offered() for _ in range(2)] == [["1.0.0"]] * 2
    hostile.answer = lambda request: tags("1.0.0", "1.1.0", ETag='"b"')
    assert await source.offered() == ["1.1.0", "1.0.0"]
    assert [request.headers.get("if-none-match") for request in hostile.requests] == [None, '"a"', '"a"']


async def test_a_tag_is_followed_by_conditional_heads(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        is_known = request.headers.get("if-none-match") == '"a"'
        return reply(304) if is_known else reply(200, ETag='"a"', Docker_Content_Digest=DIGEST)

    hostile.answer = answer
    source = images(hostile, "team/app:latest")
    assert [await source.offered() for _ in range(3)] == [[f"latest@{DIGEST[:19]}"]] * 3
    assert {request.method for request in hostile.requests} == {"HEAD"}
    accepted = hostile.requests[0].headers["accept"]
    assert "application/vnd.oci.image.index.v1+json" in accepted
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in accepted


async def test_a_registry_that_names_no_digest_has_its_manifest_hashed(hostile: Hostile) -> None:
    hostile.answer = lambda request: reply(200, b"an image" if request.method == "GET" else b"")
    assert (await images(hostile).resolve("1.0.0")).digest == DIGEST


async def test_this_machine_is_asked_directly_whatever_proxy_is_set(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    hostile.answer = lambda request: tags("1.0.0")
    assert await images(hostile).offered() == ["1.0.0"]


async def test_a_digest_that_is_none_is_refused(hostile: Hostile) -> None:
    hostile.answer = lambda request: reply(200, Docker_Content_Digest="sha256:../../x")
    with pytest.raises(RegistryError, match="with something that is no digest"):
        await images(hostile).resolve("1.0.0")
