"""A gateway with its token, and somebody who answers for its deployers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import msgspec
import pytest

from schemas import events as e
from schemas import subjects
from schemas.commands import Command, Deploy, Pause, Reply
from services.common.bus.connection import Bus
from services.common.bus.deadline import DEADLINE
from tests.support.gateway_process import Gateway, Launch, publishing


class Deployer:
    """Answers the commands of an application as a deployer does, and remembers what came, with its headers."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.obeyed: list[Command] = []
        self.headers: list[dict[str, str]] = []

    async def listen(self, app: str, host: str = "web-1") -> None:
        """Be there, on the bus and in the log."""
        await self.bus.respond(subjects.commands(app, host), self._answer)
        async with publishing(self.bus, "deployer", f"d-{app}") as outbox:
            outbox.record(e.ServiceStarted(1.0, f"deployer:{app}", "0.1.0", 42))

    async def _answer(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        command = msgspec.json.decode(payload, type=Command)
        self.obeyed.append(command)
        self.headers.append({name: value for name, value in headers.items() if name != DEADLINE})
        return msgspec.json.encode(self._reply(command))

    def _reply(self, command: Command) -> Reply:
        if isinstance(command, Deploy) and command.release == "9.9":
            return Reply(False, "the registry offers no release 9.9")
        return Reply(True, "done", "" if isinstance(command, Pause) else "d-1")


@pytest.fixture
def deployer(bus: Bus) -> Deployer:
    return Deployer(bus)


@pytest.fixture
def token(tmp_path: Path) -> Callable[[], str]:
    """The token that the gateways of this test have made."""
    return lambda: (tmp_path / "state" / "admin-token").read_text().strip()


@pytest.fixture
async def gateway(launch: Launch) -> Gateway:
    """A gateway that is ready."""
    started = launch()
    await started.until_ready()
    return started


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as one:
        yield one
