"""A reader of a deployer's streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from schemas import subjects
from schemas.output import STDERR, STDOUT, Line, Opened, OutputRequest, lines, output
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.streaming.messages import End
from services.common.streaming.reader import Reader
from tests.deployer.waiting import DEADLINE


async def opened(bus: Bus, request: OutputRequest) -> Reader:
    """The reader of a new stream, once there is a deployer."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(BusError):
                answer = await bus.request(subjects.output("deployer", "web", "here"), request)
                break
            await asyncio.sleep(0.05)
    found = msgspec.json.decode(answer, type=Opened)
    assert found.ok, found.message
    return Reader(bus, subjects.output_stream("deployer", "web", "here", found.stream), "the deployer of web on here")


@contextlib.asynccontextmanager
async def following(bus: Bus, request: OutputRequest) -> AsyncIterator[AsyncIterator[Line]]:
    """The lines of a stream, one by one; the stream is left at the end."""
    reader = await opened(bus, request)

    async def found() -> AsyncIterator[Line]:
        async for item in reader.read():
            if isinstance(item, bytes):
                for line in lines(item):
                    yield line

    try:
        yield found()
    finally:
        await reader.close()


async def everything(bus: Bus, request: OutputRequest) -> tuple[list[Line], End]:
    """All lines of a stream that ends, and its end."""
    reader = await opened(bus, request)
    found: list[Line] = []
    async with asyncio.timeout(DEADLINE):
        async for item in reader.read():
            if isinstance(item, End):
                await reader.close()
                return found, item
            found += lines(item)
    raise AssertionError("a stream without an end")


async def command(bus: Bus, request: OutputRequest, *inputs: bytes) -> tuple[bytes, bytes, End]:
    """What a command writes to standard output and standard error, and its end. `inputs`: sent first, then no more."""
    reader = await opened(bus, request)
    found = {STDOUT: b"", STDERR: b""}
    for data in inputs:
        await reader.write(data)
    if inputs:
        await reader.write(is_end=True)
    async with asyncio.timeout(DEADLINE):
        async for item in reader.read():
            if isinstance(item, End):
                await reader.close()
                return found[STDOUT], found[STDERR], item
            source, data = output(item)
            found[source] += data
    raise AssertionError("a stream without an end")


async def refused(bus: Bus, request: OutputRequest) -> str:
    """Why a stream is not opened."""
    answer = await bus.request(subjects.output("deployer", "web", "here"), request)
    found = msgspec.json.decode(answer, type=Opened)
    assert not found.ok
    return found.message
