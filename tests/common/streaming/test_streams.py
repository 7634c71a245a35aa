"""A stream loses nothing, waits for a slow reader, and ends when either side does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import BusError, LongshoreError
from services.common.streaming import messages, producer, reader
from services.common.streaming.messages import End, Write
from services.common.streaming.producer import INPUTS, MOST_STREAMS, WINDOW, Stream, Streams
from services.common.streaming.reader import Reader
from tests.support.nats_server import NatsServer
from tests.support.patience import patience


def subject(stream: str) -> str:
    return subjects.output_stream("deployer", "web", "host", stream)


class Source:
    """Sends numbers. `sent`: how many the stream has taken; `ended`: set when it was cancelled or has sent all."""

    def __init__(self, count: int, size: int = 10) -> None:
        self.count = count
        self.size = size
        self.sent = 0
        self.ended = asyncio.Event()

    async def run(self, stream: Stream) -> End:
        try:
            for number in range(self.count):
                await stream.send(str(number).rjust(self.size).encode())
                self.sent += 1
            return End(7, "done")
        finally:
            self.ended.set()


@pytest.fixture
async def streams(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Streams]:
    """Of a service with a connection of its own."""
    own = await Bus.connect("deployer", Credentials([nats_server.url]))
    found = Streams(own, subject)
    yield found
    await found.close("over")
    await own.close()


def reading(bus: Bus, stream: str) -> Reader:
    return Reader(bus, subject(stream), "the deployer")


async def everything(source: Reader) -> tuple[list[int], End]:
    numbers: list[int] = []
    async with asyncio.timeout(patience(30)):
        async for item in source.read():
            if isinstance(item, End):
                return numbers, item
            numbers.append(int(item))
    raise AssertionError("a stream without an end")


async def _drained(chunks: AsyncIterator[bytes | End]) -> None:
    async for _ in chunks:
        pass


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(patience(20)):
        while not condition():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("count", "size"), [(0, 10), (1, 10), (1000, 10), (20, 200_000)])
async def test_all_chunks_arrive_in_order_and_then_the_end(streams: Streams, bus: Bus, count: int, size: int) -> None:
    source = Source(count, size)
    assert await everything(reading(bus, await streams.open(source.run))) == (list(range(count)), End(7, "done"))


async def test_a_slow_reader_holds_the_source_and_loses_nothing(
    streams: Streams, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "POLL", 0.05)
    monkeypatch.setattr(producer, "GONE", patience(0.5))
    source = Source(3 * WINDOW)
    slow = reading(bus, await streams.open(source.run)).read()
    first = await anext(slow)
    async with asyncio.timeout(patience(20)):
        await until(lambda: source.sent >= WINDOW)
        await asyncio.sleep(patience(1))  # longer than the source waits for a reader that is gone
    assert source.sent <= WINDOW + 1
    assert not source.ended.is_set()
    rest = [item async for item in slow]
    assert [int(item) for item in [first, *rest[:-1]] if isinstance(item, bytes)] == list(range(3 * WINDOW))
    assert rest[-1] == End(7, "done")


async def test_a_reader_that_leaves_ends_the_source_at_once(streams: Streams, bus: Bus) -> None:
    source = Source(1000)
    one = reading(bus, await streams.open(source.run))
    assert await anext(one.read()) == b"0".rjust(10)
    await one.close()
    async with asyncio.timeout(patience(5)):
        await source.ended.wait()


async def test_a_reader_that_vanishes_ends_the_source(
    streams: Streams, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "GONE", 0.2)
    source = Source(1000)
    await streams.open(source.run)
    async with asyncio.timeout(patience(5)):
        await source.ended.wait()
    assert source.sent == WINDOW


async def test_a_service_that_stops_says_so_to_its_readers(streams: Streams, bus: Bus) -> None:
    source = Source(1)
    gate = asyncio.Event()

    async def run(stream: Stream) -> End:
        await source.run(stream)
        await gate.wait()
        return End()

    found = asyncio.create_task(everything(reading(bus, await streams.open(run))))
    await source.ended.wait()
    await streams.close("the deployer stops")
    assert await found == ([0], End(1, "the deployer stops"))


async def test_a_service_that_vanishes_is_reported(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "GONE", 0.2)
    own = await Bus.connect("deployer", Credentials([nats_server.url]))
    mortal = Streams(own, subject)
    chunks = reading(bus, await mortal.open(Source(1000).run)).read()
    await anext(chunks)
    await own.client.abort()
    with pytest.raises(BusError, match="the deployer is gone: the output ends here"):
        await asyncio.wait_for(_drained(chunks), patience(20))
    await mortal.close("over")
    await own.close()


async def test_a_bus_that_is_lost_and_comes_back_costs_no_chunk(
    nats_server: NatsServer, streams: Streams, bus: Bus
) -> None:
    source = Source(500)
    numbers: list[int] = []
    async with asyncio.timeout(patience(30)):
        async for item in reading(bus, await streams.open(source.run)).read():
            if isinstance(item, End):
                break
            numbers.append(int(item))
            if len(numbers) == 100:
                nats_server.kill()
                nats_server.start()
    assert numbers == list(range(500))


async def test_input_arrives_in_order_and_once(streams: Streams, bus: Bus) -> None:
    found: list[Write] = []

    async def run(stream: Stream) -> End:
        while not (found and found[-1].is_end):
            found.append(await stream.receive())
        return End()

    stream = await streams.open(run)
    one = reading(bus, stream)
    await one.write(b"a")
    await bus.ask(subject(stream), messages.encode(Write(1, b"again")), 5)
    await one.write(rows=25, columns=80)
    await one.write(is_end=True)
    assert await everything(one) == ([], End())
    assert found == [Write(1, b"a"), Write(2, rows=25, columns=80), Write(3, is_end=True)]


async def test_input_waits_for_a_source_that_does_not_read_for_long(
    streams: Streams, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "POLL", 0.1)
    monkeypatch.setattr(reader, "ANSWER", patience(0.5))
    monkeypatch.setattr(reader, "GONE", patience(0.5))
    reads, count, found = asyncio.Event(), 2 * INPUTS, list[bytes]()

    async def run(stream: Stream) -> End:
        await reads.wait()
        while len(found) < count:
            found.append((await stream.receive()).data)
        return End()

    one = reading(bus, await streams.open(run))

    async def write() -> None:
        for number in range(count):
            await one.write(bytes([number]))

    writing = asyncio.create_task(write())
    await asyncio.wait([writing], timeout=patience(1.5))  # longer than a reader waits for a producer that is gone
    assert not writing.done()
    reads.set()
    assert await everything(one) == ([], End())
    await writing
    assert found == [bytes([number]) for number in range(count)]


async def test_input_for_a_source_that_has_ended_is_dropped(streams: Streams, bus: Bus) -> None:
    async def run(_: Stream) -> End:
        return End()

    one = reading(bus, await streams.open(run))
    assert await everything(one) == ([], End())
    async with asyncio.timeout(patience(20)):
        for _ in range(2 * INPUTS):
            await one.write(b"x")


async def test_a_source_that_fails_ends_its_stream_with_the_reason(streams: Streams, bus: Bus) -> None:
    async def refuse(_: Stream) -> End:
        raise LongshoreError("no such replica")

    async def break_(_: Stream) -> End:
        raise ValueError("a bug")

    assert await everything(reading(bus, await streams.open(refuse))) == ([], End(1, "no such replica"))
    _, end = await everything(reading(bus, await streams.open(break_)))
    assert (end.code, "internal error" in end.reason) == (1, True)


async def test_rubbish_is_answered_with_a_line(streams: Streams, bus: Bus) -> None:
    stream = await streams.open(Source(1).run)
    end = messages.chunks(await bus.ask(subject(stream), b"\xff", 5)).end
    assert end
    assert "not a request of a stream" in end.reason


async def test_too_many_streams_are_refused_until_one_ends(streams: Streams, bus: Bus) -> None:
    opened = [await streams.open(Source(1000).run) for _ in range(MOST_STREAMS)]
    with pytest.raises(LongshoreError, match="streams are open already"):
        await streams.open(Source(1).run)
    await reading(bus, opened[0]).close()
    async with asyncio.timeout(patience(5)):
        while True:
            with contextlib.suppress(LongshoreError):
                await streams.open(Source(1).run)
                return
            await asyncio.sleep(0.01)
