"""The container engine that DOCKER_HOST or the usual socket leads to, and a registry of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

from services.common.bus.connection import Bus
from tests.deployer.runtime.docker.site import DockerSite
from tests.support.docker_registry import DockerRegistry
from tests.support.engine import connect
from tests.support.nats_server import NatsServer


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    """The engine's API. Where none answers the test is skipped, but never in CI."""
    client = connect()
    yield client.api
    client.close()


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    server = DockerRegistry(tmp_path_factory.mktemp("registry"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def site(
    nats_server: NatsServer,
    bus: Bus,
    tmp_path: Path,
    engine: docker.APIClient,
    image_registry: DockerRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[DockerSite]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    site = DockerSite(nats_server, bus, tmp_path / "state", image_registry.host, engine)
    try:
        async with site.played():
            yield site
    finally:
        await asyncio.to_thread(site.clean_up)
