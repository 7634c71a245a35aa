"""A real registry, one that misbehaves as told, and none of the credentials of whoever runs the tests."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.deployer.registry.oci.hostile import Hostile
from tests.deployer.registry.oci.looking import NAME, SECRET
from tests.deployer.registry.oci.tls import Certificate
from tests.support.docker_registry import DockerRegistry


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Docker's configuration would be, if a test wrote one."""
    for name in ("LONGSHORE_REGISTRY", "DOCKER"):
        for part in ("USERNAME", "PASSWORD"):
            monkeypatch.delenv(f"{name}_{part}", raising=False)
    for name in ("GITHUB_TOKEN", "GITHUB_ACTOR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    server = DockerRegistry(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def locked_registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """It wants the user "ship" with the password "sesame"."""
    server = DockerRegistry(tmp_path, is_locked=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    async with Hostile() as server:
        yield server


@pytest.fixture
async def elsewhere() -> AsyncIterator[Hostile]:
    """Another host: the same machine under another address."""
    async with Hostile("127.0.0.2") as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials in variables; the header that they make."""
    monkeypatch.setenv("LONGSHORE_REGISTRY_USERNAME", NAME)
    monkeypatch.setenv("LONGSHORE_REGISTRY_PASSWORD", SECRET)
    return "Basic " + base64.b64encode(f"{NAME}:{SECRET}".encode()).decode()
