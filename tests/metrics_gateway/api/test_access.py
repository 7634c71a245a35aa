"""Who may ask what: tokens, loopback and elsewhere, foreign hosts."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.exceptions import HTTPException

from services.common.config.settings import arguments, handed, variables
from services.common.errors import SettingsError
from services.metrics_gateway.api import tokens
from services.metrics_gateway.api.access import bearer, check, is_local
from services.metrics_gateway.api.tokens import Tokens
from services.metrics_gateway.settings import GatewaySettings
from tests.support.gateway_process import Gateway, Launch

READ = ["/api/status", "/api/containers", "/api/deployments", "/api/backends", "/api/events", "/schema"]
READ += ["/api/events/stream?follow=false", "/api/stream?follow=false"]


def bears(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="longshore"')
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 401
    assert answer.text.count("\n") == 1


async def test_reading_on_loopback_needs_no_token_but_a_wrong_one_is_refused(
    client: httpx.AsyncClient, token: Callable[[], str]
) -> None:
    for path in READ:
        assert (await client.get(path)).status_code == 200
        assert (await client.get(path, headers=bears(token()))).status_code == 200
        assert_refused(await client.get(path, headers=bears("wrong")))


async def test_reading_elsewhere_needs_the_token_but_the_page_and_the_health_addresses_tell_nothing(
    launch: Launch, token: Callable[[], str]
) -> None:
    gateway = launch(admin_address="0.0.0.0")
    await gateway.until_ready()
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        for path in READ:
            assert_refused(await client.get(path))
            assert_refused(await client.get(path, headers=bears("wrong")))
            assert (await client.get(path, headers=bears(token()))).status_code == 200
        for path in ("/", "/healthz/live", "/healthz/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_every_verb_needs_the_token_before_it_looks_at_the_body(client: httpx.AsyncClient) -> None:
    wrong = [{}, bears("wrong"), bears("ü" * 8), {"authorization": "Bearer"}, {"authorization": "Basic YTpi"}]
    for verb in ("deploy", "rollback", "pause", "resume", "retry", "drain", "abort"):
        for headers in wrong:
            raw = {name.encode(): value.encode() for name, value in headers.items()}
            assert_refused(await client.post(f"/api/{verb}", headers=raw, content=b"no json"))


async def test_metrics_ask_for_a_token_when_there_is_one(launch: Launch, token: Callable[[], str]) -> None:
    gateway = launch(metrics_token="m-1")
    await gateway.until_ready()
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert_refused(await client.get("/metrics"))
        assert_refused(await client.get("/metrics", headers=bears("m-2")))
        assert (await client.get("/metrics", headers=bears("m-1"))).status_code == 200
        assert (await client.get("/metrics", headers=bears(token()))).status_code == 200
        assert_refused(await client.get("/api/status", headers=bears("m-1")))
        assert_refused(await client.post("/api/pause", headers=bears("m-1"), json={}))


async def test_a_page_of_elsewhere_cannot_make_a_browser_read_here(
    client: httpx.AsyncClient, gateway: Gateway, token: Callable[[], str]
) -> None:
    port = gateway.settings.admin_port
    for path in ("/api/status", "/metrics", "/api/stream"):
        answer = await client.get(path, headers={"host": f"evil.example:{port}"})
        assert answer.status_code == 421
        assert answer.text.count("\n") == 1
    assert (await client.get("/api/status", headers={"host": "proxy.example", **bears(token())})).status_code == 200
    assert (
        "access-control-allow-origin" not in (await client.get("/api/status", headers={"origin": "http://x"})).headers
    )


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:17539", "LOCALHOST.", "a.localhost:1", "127.0.0.1", "127.8.8.8:80", "[::1]:1", ""]
)
def test_names_of_this_machine_are_local(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["example.com", "localhost.example.com", "127.0.0.1.example.com:80", "localhost:80:80", "[::1", "a b", "@"]
)
def test_other_names_are_not(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer a", "a"), ("bearer  a ", "a"), ("Bearer", ""), ("Basic a", None), ("", None), ("Bearera", None)],
)
def test_a_bearer_token_is_read_from_its_header(header: str, token: str | None) -> None:
    assert bearer(header) == token


def test_without_an_admin_token_no_token_opens_anything() -> None:
    for presented in ("", "x"):
        with pytest.raises(HTTPException):
            check("command", Tokens(), presented, "localhost", True)


def test_the_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = GatewaySettings(state_dir=str(tmp_path / "new" / "state"))
    first = tokens.load(settings).admin
    file = tmp_path / "new" / "state" / "admin-token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first) >= 40
    assert tokens.load(settings).admin == first
    assert [one.name for one in file.parent.iterdir()] == ["admin-token"]
    file.unlink()
    assert tokens.load(settings).admin != first


def test_a_state_directory_that_cannot_be_written_leaves_the_verbs_closed_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert tokens.load(GatewaySettings(state_dir=str(tmp_path / "file"))) == Tokens()
    assert "--admin-token-file" in "".join(capsys.readouterr())


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", "tökén".encode()])
@pytest.mark.parametrize("option", ["admin_token_file", "metrics_token_file"])
def test_a_file_without_a_token_is_an_error_of_one_line(tmp_path: Path, content: bytes, option: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"--{option.replace('_', '-')}: .*does not hold a token") as refusal:
        tokens.load(GatewaySettings(**_files(tmp_path, option, file)))
    assert "\n" not in str(refusal.value)


def test_a_token_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--admin-token-file: cannot read"):
        tokens.load(GatewaySettings(**_files(tmp_path, "admin_token_file", tmp_path / "none")))


def test_tokens_of_files_are_taken_without_the_line_break(tmp_path: Path) -> None:
    for name in ("admin", "metrics"):
        (tmp_path / name).write_text(f"{name}-1\n")
    settings = GatewaySettings(
        state_dir=str(tmp_path),
        admin_token_file=str(tmp_path / "admin"),
        metrics_token_file=str(tmp_path / "metrics"),
    )
    assert tokens.load(settings) == Tokens("admin-1", "metrics-1")


def test_the_metrics_token_reaches_a_service_by_a_variable_only() -> None:
    settings = GatewaySettings(metrics_token="secret-1")
    assert "secret-1" not in "".join(arguments(settings))
    assert handed(variables(settings)) == {"metrics_token": "secret-1"}


@pytest.mark.parametrize("values", [{"metrics_token": "a b"}, {"metrics_token": "a", "metrics_token_file": "b"}])
def test_metrics_tokens_that_make_no_sense_are_refused_without_being_shown(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refusal:
        GatewaySettings(**values)
    assert "a b" not in str(refusal.value)


def _files(directory: Path, option: str, file: Path) -> dict[str, Any]:
    return {"state_dir": str(directory), option: str(file)}
