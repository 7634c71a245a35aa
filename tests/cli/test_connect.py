"""The connection of the command line to the embedded bus, and what it says when there is none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.client.client import Target, connect
from services.common.bus import credentials
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port


def target(state: Path, port: int, password: str) -> Target:
    file = credentials.path(str(state), "cli")
    file.parent.mkdir(parents=True)
    file.write_bytes(msgspec.json.encode(Credentials([f"nats://127.0.0.1:{port}"], "cli", password)))
    return Target(state_dir=str(state), bus_timeout=1.0)


async def test_without_a_bus_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"nothing runs with --state-dir .*: start Longshore"):
        async with connect(target(tmp_path / "state", free_port(), "right")):
            pass


async def test_a_bus_that_refuses_is_not_taken_for_one_that_does_not_run(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, "--user", "cli", "--pass", "right")
    server.start()
    try:
        with pytest.raises(BusError, match="refuses cli: "):
            async with connect(target(tmp_path / "state", server.port, "wrong")):
                pass
    finally:
        server.kill()
