"""https is checked, and never left for http."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.common.errors import RegistryError
from services.deployer.registry import Registry, parse
from services.deployer.registry.oci import session, source
from tests.deployer.registry.oci.hostile import Hostile, reply, tags
from tests.deployer.registry.oci.tls import Certificate
from tests.support.docker_registry import DockerRegistry


@pytest.fixture
async def encrypted(certificate: Certificate) -> AsyncIterator[Hostile]:
    async with Hostile(tls=certificate.server) as server:
        server.answer = lambda request: tags("1.0.0")
        yield server


def images(server: Hostile, option: str = "insecure=false") -> Registry:
    return parse(f"img://{server.host}/app?{option}")


async def test_a_certificate_that_nobody_signed_is_refused(encrypted: Hostile) -> None:
    with pytest.raises(RegistryError, match=r"its certificate is not trusted \(self-signed certificate\)"):
        await images(encrypted).offered()
    assert not encrypted.requests


async def test_a_certificate_that_the_user_trusts_is_accepted(
    encrypted: Hostile, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    assert await images(encrypted).offered() == ["1.0.0"]


async def test_a_certificate_for_another_name_is_refused(
    encrypted: Hostile, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    host = encrypted.host.replace("127.0.0.1", "localhost")
    with pytest.raises(RegistryError, match=r"its certificate is not trusted \(Hostname mismatch"):
        await parse(f"img://{host}/app?insecure=false").offered()


async def test_a_registry_without_encryption_says_so(docker_registry: DockerRegistry) -> None:
    with pytest.raises(RegistryError, match=r"speaks no TLS that we do: if it has none, use \?insecure=true"):
        await parse(f"img://{docker_registry.host}/app?insecure=false").offered()


async def test_one_that_waits_for_something_else_than_tls_is_given_up(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CONNECT_TIMEOUT", 0.3)
    with pytest.raises(RegistryError, match="does not take the connection in time"):
        await images(hostile).offered()


@pytest.mark.parametrize("where", ["redirect", "link"])
async def test_https_is_never_left_for_http(
    encrypted: Hostile, hostile: Hostile, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    redirect = reply(302, Location=hostile.url)
    link = tags("1.0.0", Link=f'<{hostile.url}>; rel="next"')
    encrypted.answer = lambda request: redirect if where == "redirect" else link
    with pytest.raises(RegistryError, match="which is not encrypted: not followed"):
        await images(encrypted).offered()
    assert not hostile.requests


async def test_a_realm_is_checked_even_when_the_registry_itself_is_not_encrypted(
    encrypted: Hostile, hostile: Hostile, credentials: str
) -> None:
    hostile.answer = lambda request: reply(401, WWW_Authenticate=f'Bearer realm="{encrypted.url}/token"')
    with pytest.raises(RegistryError, match="its certificate is not trusted"):
        await images(hostile, "insecure=true").offered()
    assert not encrypted.requests


async def test_plain_http_is_spoken_to_this_machine_and_elsewhere_only_when_told() -> None:
    for place in ("localhost:5000/a", "127.8.0.1/a", "[::1]:5000/a", "h.example/a?insecure=true"):
        assert _scheme(place) == "http", place
    for place in ("h.example/a", "10.0.0.1:80/a", "nginx", "localhost:5000/a?insecure=false", "[fe80::1]/a"):
        assert _scheme(place) == "https", place


def _scheme(place: str) -> str:
    return "http" if source.parse(place).is_plain else "https"
