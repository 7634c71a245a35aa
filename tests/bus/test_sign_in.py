"""How a service signs in at an existing server, and what each mistake looks like."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from services.common.bus.credentials import find
from services.common.bus.nkey import Nkey
from services.common.config.settings import Settings
from services.common.errors import LongshoreError
from tests.support.authority import Authority
from tests.support.configured_server import ConfiguredServer, connected, serving

USER = 'authorization { users: [{ user: "longshore-proxy", password: "s3cret" }] }'


async def _works(**options: Any) -> None:
    bus = await connected(**options)
    await bus.client.flush()
    await bus.close()


async def _problem(service: str = "proxy", **options: Any) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(LongshoreError) as failure:
        await connected(service, **options)
    line = str(failure.value)
    assert "\n" not in line
    assert "s3cret" not in line
    return line


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


def _tls(authority: Authority, *validity: str, clients: bool = False) -> str:
    certificate, key = authority.sign("server", *validity)
    block = {"cert_file": str(certificate), "key_file": str(key), "verify": clients}
    if clients:
        block["ca_file"] = str(authority.certificate)
    return f"tls {json.dumps(block)}"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ConfiguredServer]:
    with serving(tmp_path_factory.mktemp("nats"), _tls(authority)) as server:
        yield server


@pytest.fixture(scope="module")
def known_only(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ConfiguredServer]:
    with serving(tmp_path_factory.mktemp("nats"), _tls(authority, clients=True)) as server:
        yield server


@pytest.fixture(scope="module")
def with_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    with serving(tmp_path_factory.mktemp("nats"), USER) as server:
        yield server


async def test_a_server_is_trusted_whose_certificate_the_given_authority_signed(
    encrypted: ConfiguredServer, authority: Authority, tmp_path: Path
) -> None:
    await _works(nats_url=[encrypted.url], nats_ca=str(authority.certificate))
    line = await _problem(nats_url=[encrypted.url])
    assert line.endswith("name its authority with --nats-ca")
    other = Authority(tmp_path / "other").certificate
    line = await _problem(nats_url=[encrypted.url], nats_ca=str(other))
    assert line.endswith(f"not signed by the authority of --nats-ca {other}")


async def test_a_certificate_for_another_name_is_told(encrypted: ConfiguredServer, authority: Authority) -> None:
    url = encrypted.url.replace("localhost", "127.0.0.1")
    assert "another name: use that one in --nats-url" in await _problem(
        nats_url=[url], nats_ca=str(authority.certificate)
    )


async def test_an_expired_certificate_of_the_server_is_told(authority: Authority, tmp_path: Path) -> None:
    with serving(tmp_path, _tls(authority, "-days", "-1")) as server:
        assert "has expired" in await _problem(nats_url=[server.url], nats_ca=str(authority.certificate))


async def test_a_client_certificate_opens_a_server_that_asks_for_one(
    known_only: ConfiguredServer, authority: Authority, tmp_path: Path
) -> None:
    usual: dict[str, Any] = {"nats_url": [known_only.url], "nats_ca": str(authority.certificate)}
    certificate, key = authority.sign("proxy")
    await _works(**usual, nats_cert=str(certificate), nats_key=str(key))
    assert "give --nats-cert and --nats-key" in await _problem(**usual)
    stranger, its_key = Authority(tmp_path / "other").sign("stranger")
    line = await _problem(**usual, nats_cert=str(stranger), nats_key=str(its_key))
    assert f"does not accept --nats-cert {stranger}" in line
    late, late_key = authority.sign("late", "-days", "-1")
    assert f"--nats-cert {late} has expired" in await _problem(**usual, nats_cert=str(late), nats_key=str(late_key))


async def test_a_certificate_can_be_each_services_own(known_only: ConfiguredServer, authority: Authority) -> None:
    authority.sign("health")
    folder = authority.folder
    await _works(
        service="health",
        nats_url=[known_only.url],
        nats_ca=str(authority.certificate),
        nats_cert=f"{folder}/{{service}}.pem",
        nats_key=f"{folder}/{{service}}.key",
    )


async def test_nothing_is_sent_in_plain_text_when_tls_is_asked_for(
    with_user: ConfiguredServer, authority: Authority
) -> None:
    account = {"nats_user": "longshore-proxy", "nats_password": "s3cret"}
    line = await _problem(nats_url=[with_user.url], nats_ca=str(authority.certificate), **account)
    assert "the server does not offer TLS" in line
    assert "the server does not offer TLS" in await _problem(nats_url=[f"tls://localhost:{with_user.port}"], **account)


@pytest.mark.parametrize("option", ["nats_ca", "nats_cert", "nats_key"])
@pytest.mark.parametrize(("content", "says"), [(None, "No such file or directory"), ("rubbish", "in PEM form")])
async def test_a_missing_or_wrong_file_is_told_with_its_option(
    option: str, content: str | None, says: str, authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    certificate, key = authority.sign("proxy")
    usual = {"nats_cert": str(certificate), "nats_key": str(key)} if option != "nats_ca" else {}
    line = await _problem(nats_url=["nats://localhost:1"], **(usual | {option: str(file)}))
    assert str(file) in line
    assert says in line
    assert "--nats-" in line


async def test_a_user_signs_in_with_a_password_from_an_option_a_file_or_the_url(
    with_user: ConfiguredServer, tmp_path: Path
) -> None:
    file = tmp_path / "proxy.password"
    file.write_text("s3cret\n")
    await _works(nats_url=[with_user.url], nats_user="longshore-proxy", nats_password="s3cret")
    await _works(
        nats_url=[with_user.url],
        nats_user="longshore-{service}",
        nats_password_file=f"{tmp_path}/{{service}}.password",
    )
    await _works(nats_url=[with_user.url.replace("//", "//longshore-proxy:s3cret@")])


@pytest.mark.parametrize("password", ["p@ss/w:rd#?", "100%", "%40", "ä b"])
async def test_what_a_url_cannot_hold_is_percent_encoded_in_it(password: str, tmp_path: Path) -> None:
    user = "o:ps@example"
    account = json.dumps({"user": user, "password": password}, ensure_ascii=False)
    with serving(tmp_path, f"authorization {{ users: [{account}] }}") as server:
        signed = f"//{quote(user, safe='')}:{quote(password, safe='')}@"
        await _works(nats_url=[server.url.replace("//", signed)])
        await _works(nats_url=[server.url], nats_user=user, nats_password=password)


async def test_a_token_in_the_url_is_decoded_too(tmp_path: Path) -> None:
    with serving(tmp_path, 'authorization { token: "t@k/n%" }') as server:
        await _works(nats_url=[server.url.replace("//", f"//{quote('t@k/n%', safe='')}@")])
        line = await _problem(nats_url=[server.url.replace("//", "//another@")])
        assert line.endswith("mend them in --nats-url")


async def test_each_server_has_the_sign_in_of_its_own_url(tmp_path: Path) -> None:
    one = serving(tmp_path / "one", 'authorization { token: "to%ken" }')
    two = serving(tmp_path / "two", 'authorization { users: [{ user: "a", password: "b:c" }] }')
    with one as first, two as second:
        urls = [first.url.replace("//", "//to%25ken@"), second.url.replace("//", "//a:b%3Ac@")]
        bus = await connected(nats_url=[",".join(urls)])
        async with asyncio.timeout(60):
            for _ in range(2):
                url = bus.client.connected_url
                assert url
                current = first if url.port == first.port else second
                current.stop()
                await bus.until_lost()
                await bus.until_connected()
                await bus.client.flush()
                current.start()
        await bus.close()


async def test_a_wrong_password_is_told_at_once_without_showing_it(with_user: ConfiguredServer) -> None:
    async with asyncio.timeout(10):
        line = await _problem(
            timeout=60, nats_url=[with_user.url], nats_user="longshore-proxy", nats_password="wrong-s3cret"
        )
        assert line.endswith("mend --nats-user and --nats-password")
        line = await _problem(timeout=60, nats_url=[with_user.url.replace("//", "//longshore-proxy:wrong-s3cret@")])
        assert line.endswith("mend them in --nats-url")
        line = await _problem(timeout=60, nats_url=[with_user.url])
        assert line.endswith("none is given (--nats-user, --nats-nkey-file or --nats-creds)")


async def test_one_server_that_refuses_does_not_keep_from_using_another(
    with_user: ConfiguredServer, encrypted: ConfiguredServer, authority: Authority
) -> None:
    urls = f"{with_user.url},{encrypted.url}"
    for _ in range(5):  # the client begins with any of them
        await _works(nats_url=[urls], nats_ca=str(authority.certificate))


async def test_an_nkey_signs_in(tmp_path: Path) -> None:
    key = Nkey.new()
    (tmp_path / "proxy.nk").write_text(f"# of the proxy\n{key.seed}\n")
    (tmp_path / "stranger.nk").write_text(Nkey.new().seed)
    with serving(tmp_path, f"authorization {{ users: [{{ nkey: {key.public} }}] }}") as server:
        await _works(nats_url=[server.url], nats_nkey_file=f"{tmp_path}/{{service}}.nk")
        line = await _problem(nats_url=[server.url], nats_nkey_file=f"{tmp_path}/stranger.nk")
        assert line.endswith(f"it does not know the key of --nats-nkey-file {tmp_path}/stranger.nk")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, []), (0o640, []), (0o644, ["--nats-nkey-file"])])
def test_a_secret_that_everyone_can_read_is_warned_of(mode: int, warned: list[str], tmp_path: Path) -> None:
    file = tmp_path / "proxy.nk"
    file.write_text(Nkey.new().seed)
    file.chmod(mode)
    with capture_logs() as lines:
        find(Settings(nats_url=["nats://localhost:1"], nats_nkey_file=str(file)), "proxy")
    assert [line["option"] for line in lines] == warned


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "no seed of a user"), ("UABC", "no seed"), (Nkey.new().seed[:-4] + "AAAA", "seed"), ("\0\xff", "no seed")],
    ids=["empty", "public", "checksum", "binary"],
)
async def test_a_file_without_a_seed_is_told(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    line = await _problem(nats_url=["nats://localhost:1"], nats_nkey_file=str(tmp_path / "key"))
    assert line.startswith(f"--nats-nkey-file {tmp_path}/key: ")
    assert says in line


def _jwt(issuer: _Issuer, kind: str, subject: str, name: str) -> str:
    """A token as NATS's own tools make it (NATS ADR-14, JWT version 2)."""
    claims: dict[str, Any] = {"iss": issuer.public, "sub": subject, "name": name, "nats": {"type": kind, "version": 2}}
    if kind == "account":
        claims["nats"] |= {"limits": {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1}}
    if kind == "user":
        claims["nats"] |= {"subs": -1, "data": -1, "payload": -1}
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, claims))
    return f"{body}.{issuer.signed(body)}"


class _Issuer:
    """An operator or an account: a key of another kind than a user's."""

    def __init__(self, kind: int) -> None:
        from nacl.signing import SigningKey

        from services.common.bus.nkey import _encode

        self._key = SigningKey.generate()
        self.public = _encode(bytes([kind << 3]) + bytes(self._key.verify_key))

    def signed(self, text: str) -> str:
        return base64.urlsafe_b64encode(self._key.sign(text.encode()).signature).decode().rstrip("=")


async def test_a_credentials_file_signs_in(tmp_path: Path) -> None:
    operator, account, user = _Issuer(14), _Issuer(0), Nkey.new()
    own = _jwt(operator, "operator", operator.public, "operator")
    trusted = _jwt(operator, "account", account.public, "LONGSHORE")
    config = f"operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {account.public}: {trusted} }}"
    _write_creds(tmp_path / "proxy.creds", _jwt(account, "user", user.public, "proxy"), user.seed)
    stranger = _Issuer(0)
    _write_creds(tmp_path / "stranger.creds", _jwt(stranger, "user", user.public, "proxy"), user.seed)
    with serving(tmp_path, config, jetstream=False) as server:
        await _works(nats_url=[server.url], nats_creds=f"{tmp_path}/{{service}}.creds")
        line = await _problem(nats_url=[server.url], nats_creds=f"{tmp_path}/stranger.creds")
        assert line.endswith(f"--nats-creds {tmp_path}/stranger.creds is for another account, expired or revoked")


def _write_creds(file: Path, jwt: str, seed: str) -> None:
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


@pytest.mark.parametrize("content", ["", "-----BEGIN NATS USER JWT-----\n", "-----BEGIN USER NKEY SEED-----\nSU\n"])
async def test_a_file_that_holds_no_credentials_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "creds").write_text(content)
    line = await _problem(nats_url=["nats://localhost:1"], nats_creds=str(tmp_path / "creds"))
    assert line.startswith(f"--nats-creds {tmp_path}/creds: no credentials file")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nats_user": "a"}, "--nats-user needs --nats-password"),
        ({"nats_password": "a"}, "--nats-password needs --nats-user"),
        ({"nats_user": "a", "nats_password": "b", "nats_nkey_file": "c"}, "--nats-user and --nats-nkey-file"),
        ({"nats_nkey_file": "a", "nats_creds": "c"}, "--nats-nkey-file and --nats-creds"),
        ({"nats_user": "a", "nats_password": "b", "nats_password_file": "c"}, "give one of them"),
        ({"nats_user": "a", "nats_password_file": "/no/such"}, "--nats-password-file /no/such: No such file"),
        ({"nats_nkey_file": "/no/{service}"}, "--nats-nkey-file /no/proxy: No such file"),
        ({"nats_creds": "/no/{service}"}, "--nats-creds /no/proxy: No such file"),
        ({"nats_cert": "a"}, "--nats-key is missing"),
        ({"nats_key": "a"}, "--nats-cert is missing"),
        ({"nats_url": [" , "]}, "--nats-url names no server: use nats://host:4222"),
        ({"nats_url": [], "nats_ca": "a"}, "--nats-ca needs --nats-url"),
    ],
)
async def test_options_that_do_not_fit_together_are_told(options: dict[str, Any], says: str) -> None:
    assert says in await _problem(**({"nats_url": ["nats://localhost:1"]} | options))


async def test_a_service_comes_back_after_its_password_was_wrong_for_a_while(tmp_path: Path) -> None:
    with serving(tmp_path, USER) as server, capture_logs() as lines:
        bus = await connected(nats_url=[server.url], nats_user="longshore-proxy", nats_password="s3cret")
        server.write(USER.replace("s3cret", "another"))
        server.reload()
        async with asyncio.timeout(30):
            await bus.until_lost()
            while not any("refuses us" in line["event"] for line in lines):  # noqa: ASYNC110 - a line is no event
                await asyncio.sleep(0.05)
        server.write(USER)
        server.reload()
        async with asyncio.timeout(30):
            await bus.until_connected()
        await bus.close()
    told = [line for line in lines if "refuses us" in line["event"]]
    assert [line["reason"] for line in told] == ["wrong user or password: mend --nats-user and --nats-password"]
