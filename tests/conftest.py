"""A real nats-server for every test that needs a bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.provisioning import ensure_streams
from tests.support.nats_server import NatsServer


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A test that configures logging does so for itself."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test leaves in the default state directory, the next one does not find."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a fresh server with the stream and the buckets."""
    connection = await Bus.connect("gateway", Credentials([nats_server.url]))
    await ensure_streams(connection)
    yield connection
    await connection.close()
