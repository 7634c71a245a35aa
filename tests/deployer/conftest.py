"""Folders for a registry and for replicas; whatever a test starts is gone after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.common.bus.connection import Bus
from services.deployer.runtime import orphans
from tests.deployer.runtime.process_host import Host
from tests.deployer.site import Site
from tests.support.nats_server import NatsServer
from tests.support.streams import no_stream_left as no_stream_left


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory. The replicas in it are killed at the end."""
    folder = tmp_path / "state"
    yield folder
    for record in folder.glob("replicas/*/*/replica.json"):
        orphans.kill(record.parent.name)


@pytest.fixture
async def site(nats_server: NatsServer, bus: Bus, state_dir: Path, registry: Path) -> AsyncIterator[Site]:
    site = Site(nats_server, bus, state_dir, registry)
    async with site.played():
        yield site


@pytest.fixture
async def host(state_dir: Path, registry: Path) -> AsyncIterator[Host]:
    host = Host(state_dir / "replicas" / "web", registry)
    yield host
    host.runtime.close()
