"""Covers services.common.delivery.buffer: what is dropped is dropped everywhere, counted once, and never sent later."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from schemas import handover, subjects
from schemas.chain import SealedBatch, Sealer
from schemas.codec import encode_events
from schemas.events import ServiceStopped
from services.common.delivery.buffer import Buffer
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.spool_file import Delivery, SpoolError
from tests.support.patience import patience

PAYLOAD = 1000
"""Bytes of a batch, about."""

MOST = 110
"""Batches that fit into 100 * PAYLOAD bytes, with room for batches that are smaller."""

DEADLINE = patience(60.0)


class FullDisk(DiskQueue):
    """A queue whose disk takes nothing."""

    def write(self, *_: object) -> None:
        raise SpoolError("No space left on device")


class SlowDisk(DiskQueue):
    """A queue whose disk hangs until it is `released`."""

    def __init__(self, folder: Path, limit: int = 1 << 30) -> None:
        super().__init__(folder, "proxy", "i", limit)
        self.released = threading.Event()
        self.hangs = threading.Event()

    def write(self, *arguments: object) -> None:
        self.hangs.set()
        assert self.released.wait(DEADLINE)
        super().write(*arguments)  # type: ignore[arg-type]


class Sender:
    """Keeps what it handed over until it is durable, as a worker of the proxy does."""

    def __init__(self, to: Buffer) -> None:
        self.kept: set[int] = set()
        self._to = to
        self._sealer = Sealer("proxy", "host", "i")

    @property
    def sent(self) -> int:
        return self._sealer.sequence

    def send(self, count: int) -> None:
        for _ in range(count):
            events = encode_events([ServiceStopped(0.0, "x" * (PAYLOAD - 130))])
            payload = self._sealer.seal("web", msgspec.Raw(events))
            number = self._sealer.sequence
            self.kept.add(number)
            done = lambda number=number: self.kept.discard(number)  # noqa: E731
            self._to.add(Delivery(subjects.events("proxy", "web"), f"i:{number}", 1, payload, on_durable=done))


@contextlib.asynccontextmanager
async def keeping(one: Buffer) -> AsyncIterator[Buffer]:
    task = asyncio.create_task(one.persist())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.close()


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.005)


def held(one: Buffer) -> int:
    """Batches that the buffer has in memory, wherever."""
    return len({id(batch) for batch in (*one._queue, *one._unstored, *one._finished)})


async def test_a_sender_keeps_no_more_than_the_limit_while_bus_and_disk_take_nothing(tmp_path: Path) -> None:
    limit = 100 * PAYLOAD
    one = Buffer("proxy", FullDisk(tmp_path, "proxy", "i", 1 << 30), limit)
    sender = Sender(one)
    async with keeping(one):
        for _ in range(100):
            sender.send(100)
            assert len(sender.kept) <= MOST
            assert held(one) <= MOST
            await asyncio.sleep(0)
        lost = one.pop_lost().total()
        assert lost + len(sender.kept) == sender.sent


async def test_without_a_spool_a_sender_keeps_no_more_than_the_limit() -> None:
    one = Buffer("proxy", None, 100 * PAYLOAD)
    sender = Sender(one)
    sender.send(10_000)
    assert len(sender.kept) <= MOST
    assert one.lost.total() + len(sender.kept) == sender.sent


async def test_a_disk_that_hangs_keeps_neither_what_was_dropped_nor_what_the_bus_has(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path)
    one = Buffer("proxy", disk, 100 * PAYLOAD)
    sender = Sender(one)
    async with keeping(one):
        sender.send(1)
        await asyncio.to_thread(disk.hangs.wait, DEADLINE)
        for _ in range(100):
            sender.send(50)
            await one.acknowledge(await one.next_batches(64))
        assert held(one) <= 64
        sender.send(1000)
        assert held(one) <= MOST
        disk.released.set()


async def test_what_is_being_sent_is_not_dropped_and_counted_as_well(tmp_path: Path) -> None:
    one = Buffer("proxy", None, 100 * PAYLOAD)
    sender = Sender(one)
    sender.send(50)
    window = await one.next_batches(10)
    sender.send(1000)
    assert not any(batch.is_finished for batch in window)
    await one.acknowledge(window)
    waiting = await one.next_batches(10_000)
    assert not {batch.message_id for batch in window} & {batch.message_id for batch in waiting}
    assert one.lost.total() + len(window) + len(waiting) == sender.sent


async def test_a_window_from_a_full_spool_is_not_dropped_and_counted_as_well(tmp_path: Path) -> None:
    one = Buffer("proxy", DiskQueue(tmp_path, "proxy", "i", 100 * PAYLOAD), 1 << 30)
    sender = Sender(one)
    async with keeping(one):
        sender.send(150)
        one._spill()
        await until(lambda: not one._unstored and one.size <= 100 * PAYLOAD)
        window = await one.next_batches(10)
        for _ in range(5):
            sender.send(100)
            await until(lambda: not one._unstored)
        await until(lambda: one.size <= 100 * PAYLOAD)
        await one.acknowledge(window)
        delivered = [batch.message_id for batch in window]
        while window := await one.next_batches(64):
            delivered += [batch.message_id for batch in window]
            await one.acknowledge(window)
    assert len(set(delivered)) == len(delivered)
    assert one.lost.total() + len(delivered) == sender.sent


async def test_what_is_dropped_while_it_is_written_is_counted_once(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path, 10 * PAYLOAD)
    one = Buffer("proxy", disk, 100 * PAYLOAD)
    sender = Sender(one)
    async with keeping(one):
        sender.send(50)
        await asyncio.to_thread(disk.hangs.wait, DEADLINE)
        sender.send(1000)
        disk.released.set()
        await until(lambda: not (one._unstored or one._finished or one._queue))
        delivered = 0
        while window := await one.next_batches(64):
            delivered += len(window)
            await one.acknowledge(window)
    assert one.lost.total() + delivered == sender.sent


async def test_what_a_worker_left_is_sent_though_a_batch_was_on_its_way_when_it_was_taken_over(tmp_path: Path) -> None:
    """The batch on its way is stored behind what was left: that the bus has it says nothing about the rows before."""
    left = [
        SealedBatch("web", f"worker:{n}", 1, Sealer("proxy", "host", "w").seal("web", msgspec.Raw(b"\x90")))
        for n in range(5)
    ]
    one = Buffer("proxy", DiskQueue(tmp_path, "proxy", "i", 1 << 30), 1 << 30)
    sender = Sender(one)
    sender.send(1)
    on_its_way = await one.next_batches(64)
    (tmp_path / f"proxy-worker{handover.SUFFIX}").write_bytes(handover.encode(left))
    adopting = asyncio.create_task(one.adopt())
    try:
        await until(lambda: one._is_spilled)
        async with keeping(one):
            await until(lambda: on_its_way[0].spool)
            await one.acknowledge(on_its_way)
            assert [batch.message_id for batch in await one.next_batches(64)] == [each.message_id for each in left]
            adopting.cancel()
    finally:
        adopting.cancel()
