"""The gateway as a process of its own, and services that publish to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from services.common.bus.connection import Bus
from services.common.delivery.outbox import Outbox
from services.metrics_gateway.settings import GatewaySettings
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

DEADLINE = 20.0

_PROGRAM = """
import sys
import msgspec
from services.metrics_gateway.service import run
from services.metrics_gateway.settings import GatewaySettings
run(msgspec.json.decode(sys.argv[1], type=GatewaySettings))
"""


class Gateway:
    """A gateway process and a client for its admin API."""

    def __init__(self, settings: GatewaySettings, log: Path) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.admin_port}"
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", _PROGRAM, msgspec.json.encode(self.settings).decode()]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> int:
        """End it as a supervisor does, and return its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        code = self._process.wait(DEADLINE)
        self._process = None
        return code

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    async def until_ready(self) -> None:
        await self.until("/healthz/ready", lambda answer: answer.status_code == 200)

    async def until(self, path: str, is_there: Callable[[httpx.Response], bool]) -> httpx.Response:
        """The first answer that satisfies; an assertion with the gateway's log if there is none in time."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            for _ in range(int(DEADLINE / 0.05)):
                try:
                    answer = await client.get(path)
                except httpx.TransportError:
                    answer = None
                if answer is not None and is_there(answer):
                    return answer
                await asyncio.sleep(0.05)
        raise AssertionError(f"{path}: {answer and answer.text}\n{self.log.read_text()}")

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


Launch = Callable[..., Gateway]


@pytest.fixture
def launch(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> Iterator[Launch]:
    """Start gateways on the test's bus; each is stopped at the end."""
    gateways: list[Gateway] = []

    def start(**options: object) -> Gateway:
        values = {"nats_url": [nats_server.url], "admin_port": free_port(), "host": "web-1", "telemetry": True}
        values["state_dir"] = str(tmp_path / "state")
        settings = msgspec.convert({**values, **options}, GatewaySettings)
        gateway = Gateway(settings, tmp_path / f"gateway-{len(gateways)}.log")
        gateway.start()
        gateways.append(gateway)
        return gateway

    yield start
    for gateway in gateways:
        gateway.stop()


@asynccontextmanager
async def publishing(bus: Bus, service: str, instance: str) -> AsyncIterator[Outbox]:
    """An instance of a service on host web-1; what it recorded is on the bus when the block ends."""
    outbox = Outbox(bus, service, "web-1", instance)
    running = asyncio.create_task(outbox.run())
    try:
        yield outbox
        assert await outbox.flush(DEADLINE)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)
