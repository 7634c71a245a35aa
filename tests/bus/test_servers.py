"""Several servers, and those that are not there, never answer, or are named oddly."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.bus import binary
from services.common.bus.credentials import servers
from services.common.errors import BusError
from tests.support.configured_server import ConfiguredServer, connected, serving
from tests.support.ports import free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConfiguredServer]:
    with serving(tmp_path / "nats", "") as started:
        yield started


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_server_that_is_dead_at_the_start_does_not_matter_when_another_lives(server: ConfiguredServer) -> None:
    bus = await connected(nats_url=[f"nats://127.0.0.1:{free_port()},{server.url}"])
    await bus.close()


async def test_a_host_that_never_answers_does_not_matter_when_another_does(
    server: ConfiguredServer, silent: str
) -> None:
    bus = await connected(nats_url=[silent, server.url])
    await bus.close()


async def test_all_dead_is_told_with_every_server_and_no_password() -> None:
    dead = [f"nats://{user}:s3cret@127.0.0.1:{free_port()}" for user in ("a", "b")]
    with pytest.raises(BusError, match="no bus at nats://127") as failure:
        await connected(timeout=1, nats_url=dead)
    assert all(url.rpartition("@")[2] in str(failure.value) for url in dead)
    assert "s3cret" not in str(failure.value)


async def test_a_host_that_never_answers_is_told_after_the_timeout(silent: str) -> None:
    with pytest.raises(BusError, match=f"no bus at {silent} within 1 s"):
        await connected(timeout=1, nats_url=[silent])


@pytest.fixture
def on_ipv6(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [binary.find(), "--addr", "::1", "--port", str(port), "--log", str(tmp_path / "nats.log")]
    process = subprocess.Popen(command)
    yield f"nats://[::1]:{port}"
    process.kill()
    process.wait()


async def test_an_address_of_ipv6_is_as_good(on_ipv6: str) -> None:
    bus = await connected(nats_url=[on_ipv6])
    await bus.close()


def test_a_server_that_is_named_twice_is_one() -> None:
    assert servers(["nats://a:1, nats://b:1", "nats://a:1", ""]) == ["nats://a:1", "nats://b:1"]
