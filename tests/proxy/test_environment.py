"""What a worker of the proxy is handed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.bus.connection import Bus
from tests.proxy.proxy_service import proxy
from tests.support.nats_server import NatsServer


async def test_a_worker_sees_no_secret_of_its_master(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "hidden")
    async with proxy(bus, nats_server.url) as running:
        for pid in running.workers().values():
            names = {line.split(b"=")[0].decode() for line in environ(pid).split(b"\0") if line}
            assert "PATH" in names
            assert not {name for name in names if name.startswith("LONGSHORE_") or name == "GITHUB_TOKEN"}


def environ(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
