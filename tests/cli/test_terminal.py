"""Standard input, as it is passed on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from schemas import subjects
from services.cli import terminal
from services.cli.commands import replica_commands
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from services.common.streaming.messages import End
from services.common.streaming.producer import Stream, Streams
from services.common.streaming.reader import Reader
from tests.support.nats_server import NatsServer
from tests.support.patience import patience


@pytest.fixture
def standard_input() -> Iterator[int]:
    """Descriptor that writes to standard input."""
    kept = os.dup(0)
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    yield write
    os.dup2(kept, 0)
    os.close(kept)


async def test_standard_input_is_passed_on_with_its_end(standard_input: int) -> None:
    found: list[bytes] = []

    async def write(data: bytes) -> None:
        found.append(data)

    os.write(standard_input, b"words")
    os.close(standard_input)
    await terminal.feed(write)
    assert found == [b"words", b""]


async def test_input_that_cannot_be_passed_on_fails_with_the_reason(standard_input: int) -> None:
    async def write(_: bytes) -> None:
        raise BusError("the deployer is gone")

    feeding = terminal.feed(write)
    os.write(standard_input, b"words")
    with pytest.raises(BusError, match="the deployer is gone"):
        await feeding
    os.close(standard_input)


async def test_a_command_whose_input_is_lost_fails_and_does_not_wait_for_its_output(
    standard_input: int, nats_server: NatsServer, bus: Bus
) -> None:
    class Lost(Reader):
        async def write(self, data: bytes = b"", is_end: bool = False, rows: int = 0, columns: int = 0) -> None:
            raise BusError("the input is lost")

    async def wait(_: Stream) -> End:
        await asyncio.Event().wait()
        return End()

    def subject(stream: str) -> str:
        return subjects.output_stream("deployer", "web", "host", stream)

    own = await Bus.connect("deployer", Credentials([nats_server.url]))
    streams = Streams(own, subject)
    reader = Lost(bus, subject(await streams.open(wait)), "the deployer")
    os.write(standard_input, b"words")
    with pytest.raises(BusError, match="the input is lost"):
        async with asyncio.timeout(patience(10)):
            await replica_commands._fed(reader)
    os.close(standard_input)
    await streams.close("over")
    await own.close()
