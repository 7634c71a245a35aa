"""Tokens and credentials: who is given them, and who is not."""

from __future__ import annotations

import json

import pytest

from services.deployer.registry.oci import auth, reference
from tests.deployer.registry.oci.hostile import Hostile, Request, reply, tags
from tests.deployer.registry.oci.looking import SECRET, failure, images


class Realm:
    """Gives tokens that hold for one request, and answers /v2/ to who has the last one."""

    def __init__(self, registry: Hostile, realm: Hostile, life: float = 300) -> None:
        self.given = 0
        self.life = life
        self.challenge = f'Bearer realm="{realm.url}/token?x=1",service="a test",scope="repository:other:push"'
        registry.answer = self.answer
        realm.answer = self.answer

    def answer(self, request: Request) -> bytes:
        if request.path == "/token":
            self.given += 1
            return reply(200, json.dumps({"token": f"token-{self.given}", "expires_in": self.life}))
        if request.headers.get("authorization") == f"Bearer token-{self.given}":
            return tags("1.0.0")
        return reply(401, WWW_Authenticate=self.challenge)


async def test_a_token_is_fetched_once_and_used_until_it_is_refused(hostile: Hostile, credentials: str) -> None:
    realm = Realm(hostile, hostile)
    source = images(hostile)
    for _ in range(3):
        assert await source.offered() == ["1.0.0"]
    assert realm.given == 1
    assert len(hostile.requests) == 5
    realm.given += 1  # the token of before is no longer the last one
    assert await source.offered() == ["1.0.0"]
    assert realm.given == 3


async def test_a_token_is_asked_for_with_the_credentials_and_the_least_scope(
    hostile: Hostile, credentials: str
) -> None:
    Realm(hostile, hostile)
    await images(hostile).offered()
    (asked,) = [request for request in hostile.requests if request.path == "/token"]
    assert asked.headers["authorization"] == credentials
    assert asked.query == {"x": "1", "service": "a test", "scope": "repository:team/app:pull"}
    assert "authorization" not in hostile.requests[0].headers


async def test_a_realm_with_a_fragment_is_asked_for_the_scope_too(hostile: Hostile) -> None:
    realm = Realm(hostile, hostile)
    realm.challenge = realm.challenge.replace("/token?x=1", "/token#part")
    assert await images(hostile).offered() == ["1.0.0"]
    (asked,) = [request for request in hostile.requests if request.path == "/token"]
    assert asked.query == {"service": "a test", "scope": "repository:team/app:pull"}


async def test_a_token_may_be_had_without_credentials(hostile: Hostile) -> None:
    Realm(hostile, hostile)
    assert await images(hostile).offered() == ["1.0.0"]
    assert not any(request.headers.get("authorization", "").startswith("Basic") for request in hostile.requests)


async def test_a_token_that_does_not_help_is_no_endless_loop(hostile: Hostile, credentials: str) -> None:
    realm = Realm(hostile, hostile)
    token = reply(200, '{"access_token": "of-no-use"}')
    hostile.answer = lambda request: token if request.path == "/token" else reply(401, WWW_Authenticate=realm.challenge)
    text = str(await failure(images(hostile)))
    assert "access denied (401); tried the credentials of LONGSHORE_REGISTRY_USERNAME and" in text
    assert len(hostile.requests) == 3


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (reply(401), "access denied (401); tried the credentials of LONGSHORE_REGISTRY_USERNAME"),
        (reply(429, Retry_After="7"), "too many requests (429); not asked again for 7 s"),
        (reply(500), "the registry fails (500)"),
        (reply(200, "[]"), "answered something that is not a token (Expected `object`, got `array`)"),
        (reply(200, "<html>"), "answered something that is not a token (JSON is malformed"),
        (
            reply(200, '{"token": "open-sesame", "expires_in": "300"}'),
            "answered something that is not a token (Expected `float | null`, got `str` - at `$.expires_in`)",
        ),
        (reply(200, f'{{"token": "{"x" * 70_000}"}}'), "answered without a token"),
        (reply(200, '{"token": ""}'), "answered without a token"),
        (reply(200, '{"token": "two\\nlines"}'), "answered without a token"),
        (b"", "cut the connection"),
    ],
)
async def test_a_realm_that_gives_no_token_is_told(
    hostile: Hostile, credentials: str, answer: bytes, line: str
) -> None:
    realm = Realm(hostile, hostile)
    challenge = reply(401, WWW_Authenticate=realm.challenge)
    hostile.answer = lambda request: answer if request.path == "/token" else challenge
    assert line in str(await failure(images(hostile)))


@pytest.mark.parametrize("realm", ["http://192.0.2.1/token", "http://auth.invalid/token", "http://[2001:db8::1]:80/"])
async def test_credentials_go_to_no_realm_that_is_neither_encrypted_nor_local(
    hostile: Hostile, credentials: str, realm: str
) -> None:
    hostile.answer = lambda request: reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')
    assert "neither https nor on this machine" in str(await failure(images(hostile)))
    assert "neither https nor on this machine" in str(await failure(images(hostile, "team/app?insecure=true")))


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
async def test_insecure_credentials_go_to_the_registry_itself_and_a_warning_says_so(
    hostile: Hostile, credentials: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    # The only address of this machine that is not loopback cannot be relied on: it is taken for another machine.
    monkeypatch.setattr(reference, "is_loopback", lambda host: False)
    monkeypatch.setattr(auth, "is_loopback", lambda host: False)

    def answer(request: Request) -> bytes:
        if request.path == "/token":
            return reply(200, '{"token": "fresh"}')
        if request.headers.get("authorization") in (credentials, "Bearer fresh"):
            return tags("1.0.0")
        return reply(401, WWW_Authenticate=f'{kind} realm="{hostile.url}/token"')

    hostile.answer = answer
    registry = images(hostile, "team/app?insecure=true")
    for _ in range(2):
        assert await registry.offered() == ["1.0.0"]
    assert any(request.headers.get("authorization") == credentials for request in hostile.requests)
    assert capsys.readouterr().out.count("credentials are sent without encryption") == 1


@pytest.mark.parametrize("realm", ["", "/token", "ftp://h/", "https://user:word@h/", "https://[/"])
async def test_a_realm_that_is_no_url_is_told(hostile: Hostile, credentials: str, realm: str) -> None:
    hostile.answer = lambda request: reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')
    assert "asks for a token, but not from a URL" in str(await failure(images(hostile)))


async def test_a_registry_that_echoes_what_it_was_sent_puts_no_secret_into_the_error(
    hostile: Hostile, credentials: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: Request) -> bytes:
        if sent := request.headers.get("authorization"):
            return reply(403, f'{{"errors": [{{"message": "{sent} {SECRET}"}}]}}', X_Echo=sent, Retry_After=sent)
        return reply(401, WWW_Authenticate="Basic")

    hostile.answer = answer
    error = await failure(images(hostile))
    assert credentials.split()[1] not in repr(error)
    assert "tried the credentials of LONGSHORE_REGISTRY_USERNAME and LONGSHORE_REGISTRY_PASSWORD" in str(error)
    assert SECRET not in "".join(capsys.readouterr())


async def test_credentials_are_sent_to_nobody_who_does_not_ask(hostile: Hostile, credentials: str) -> None:
    hostile.answer = lambda request: tags("1.0.0")
    await images(hostile).offered()
    assert "authorization" not in hostile.requests[0].headers
