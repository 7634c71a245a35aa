"""The outbox on a real bus: nothing recorded is lost or sent as something new, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas import codec, subjects
from schemas.chain import fits
from schemas.codec import Batch
from schemas.events import EventsDropped, HealthChanged, ServiceStopped
from services.common.bus.connection import Bus
from services.common.delivery import buffer
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.outbox import Outbox
from services.common.jetstream.log_reader import read
from services.common.jetstream.provisioning import ensure_streams
from tests.common.delivery.test_spool import full_disk
from tests.support.nats_server import NatsServer
from tests.support.patience import patience

DEADLINE = patience(60.0)
CHILD = """
import asyncio, sys
from pathlib import Path
import msgspec
from schemas import codec
from schemas.chain import SealedBatch, Sealer
from schemas.events import ServiceStopped
from services.common.delivery.disk_queue import DiskQueue
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.delivery.outbox import Outbox

async def main(url, folder, instance):
    bus = await Bus.connect("health", Credentials([url]))
    outbox = Outbox(bus, "health", "host", instance, DiskQueue(Path(folder), "health", instance, 64 << 20))
    running = asyncio.create_task(outbox.run())
    sealer = Sealer("health", "host", instance)
    print("ready", flush=True)
    while True:
        payload = sealer.seal("_", msgspec.Raw(codec.encode_events([ServiceStopped(1.0, str(sealer.sequence + 1))])))
        number = sealer.sequence
        batch = SealedBatch("_", f"{instance}:{number}", 1, payload)
        outbox.forward(batch, lambda number=number: print("safe", number, flush=True))
        await asyncio.sleep(0.0005)

asyncio.run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[Outbox]:
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def outbox(bus: Bus, folder: Path | None, instance: str = "i", limit: int = 64 << 20) -> Outbox:
    disk_queue = DiskQueue(folder, "health", instance, limit) if folder else None
    return Outbox(bus, "health", "host", instance, disk_queue)


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def damage(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"rubbish" * 100_000)


def child_process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not is_so():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.01)


async def log(bus: Bus) -> list[Batch]:
    """All batches on the bus, which must be chained, without gap and repeat."""
    links: dict[str, dict[int, bytes]] = {}
    found = []
    async for entries in read(bus, wait=False):
        for entry in entries:
            batch = codec.decode(entry.payload).batch
            assert fits(links.setdefault(batch.instance, {}), batch, entry.payload)
            found.append(batch)
    seen = [(batch.instance, batch.sequence) for batch in found]
    assert len(set(seen)) == len(seen)
    return found


async def reasons(bus: Bus) -> list[str]:
    return [event.reason for batch in await log(bus) for event in batch.events if isinstance(event, ServiceStopped)]


async def lose(bus: Bus, server: NatsServer) -> None:
    server.kill()
    await until(lambda: not bus.is_connected)


async def test_a_bus_that_answers_leaves_nothing_on_disk(bus: Bus, tmp_path: Path) -> None:
    async with running(outbox(bus, tmp_path)) as box:
        for n in range(50):
            box.record(ServiceStopped(1.0, str(n)))
            assert await box.flush(DEADLINE)
    assert await reasons(bus) == [str(n) for n in range(50)]
    assert files(tmp_path) == []


async def test_what_the_bus_did_not_take_is_sent_by_the_next_process_as_the_old_one_s(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(outbox(bus, tmp_path, "old")) as box:
        box.record(ServiceStopped(1.0, "before"))
        assert await box.flush(DEADLINE)
        await lose(bus, nats_server)
        for n in range(500):
            box.record(ServiceStopped(1.0, str(n)), f"app-{n % 3}")
    assert files(tmp_path) == ["health-old.spool"]
    nats_server.start()
    async with running(outbox(bus, tmp_path, "new")) as box:
        await until(lambda: not list(tmp_path.glob("health-old*")))
        box.record(ServiceStopped(1.0, "after"))
        assert await box.flush(DEADLINE)
    batches = await log(bus)
    assert [batch.instance for batch in batches] == ["old"] * (len(batches) - 1) + ["new"]
    said = await reasons(bus)
    assert (said[0], said[-1]) == ("before", "after")
    assert sorted(said[1:-1]) == sorted(str(n) for n in range(500))


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_called_safe_survives_a_kill_at_any_moment(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    is_away = False
    safe: set[tuple[str, str]] = set()
    lines: list[str]
    for life in range(4):
        if is_away:
            nats_server.start()
        with child_process(nats_server.url, str(tmp_path), f"life-{life}") as child:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            is_away, lines = chance.random() < 0.7, []
            for n in range(chance.randrange(1, 400)):
                if is_away and n == 20:
                    nats_server.kill()
                lines.append(child.stdout.readline())
            child.kill()
            lines += child.stdout.readlines()
        safe |= {(f"life-{life}", line.split()[1]) for line in lines if line.startswith("safe ") and line[-1] == "\n"}
    if is_away:
        nats_server.start()
    async with running(outbox(bus, tmp_path, "last")):
        await until(lambda: not list(tmp_path.glob("*.spool")))
    arrived = {(batch.instance, str(batch.sequence)) for batch in await log(bus)}
    assert safe - arrived == set()


async def test_a_long_outage_waits_on_disk_and_not_in_memory(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "MEMORY", 50_000)
    async with running(outbox(bus, tmp_path)) as box:
        await lose(bus, nats_server)
        for n in range(20_000):
            box.record(ServiceStopped(1.0, f"event {n}"))
            if n % 1000 == 0:
                await asyncio.sleep(0.02)
        await until(lambda: box._buffer._size < 50_000)
        assert box.size > 200_000
        nats_server.start()
        assert await box.flush(DEADLINE)
        assert (box.depth, box.size, box.dropped) == (0, 0, 0)
    assert await reasons(bus) == [f"event {n}" for n in range(20_000)]
    assert files(tmp_path) == []


async def test_a_full_spool_loses_the_oldest_and_says_how_many_of_which_kind(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(outbox(bus, tmp_path, limit=100_000)) as box:
        await lose(bus, nats_server)
        for n in range(10_000):
            box.record(ServiceStopped(1.0, str(n)))
            box.record(HealthChanged(1.0, "replica", True), "web")
            if n % 500 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: box.dropped and box.size < 100_000 and not box._buffer._unstored)
        with capture_logs() as lines:
            nats_server.start()
            assert await box.flush(DEADLINE)
    arrived = [event for batch in await log_with_gaps(bus) for event in batch.events]
    told = [event for event in arrived if isinstance(event, EventsDropped)]
    kept = [event.reason for event in arrived if isinstance(event, ServiceStopped)]
    assert kept == [str(n) for n in range(10_000 - len(kept), 10_000)]
    assert sum(event.kinds["ServiceStopped"] for event in told) == 10_000 - len(kept)
    changed = sum(isinstance(event, HealthChanged) for event in arrived)
    assert sum(event.kinds["HealthChanged"] for event in told) == 10_000 - changed
    assert sum(event.count for event in told) == box.dropped
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["events were dropped"]


async def log_with_gaps(bus: Bus) -> list[Batch]:
    return [codec.decode(entry.payload).batch async for entries in read(bus, wait=False) for entry in entries]


@pytest.mark.parametrize("where", ["file", "proc"])
async def test_a_folder_that_cannot_be_written_is_told_once_and_memory_serves(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").touch()
    folder = {"file": tmp_path / "file" / "spool", "proc": Path("/proc/longshore")}[where]
    with capture_logs() as lines:
        async with running(outbox(bus, folder)) as box:
            await lose(bus, nats_server)
            for n in range(3):
                box.record(ServiceStopped(1.0, str(n)))
                await asyncio.sleep(0.03)
            nats_server.start()
            assert await box.flush(DEADLINE)
    warnings = [line for line in lines if line["event"] == "cannot use the spool: events wait in memory"]
    assert len(warnings) == 1
    assert str(folder) in warnings[0]["reason"]
    assert await reasons(bus) == ["0", "1", "2"]


async def test_a_disk_that_is_full_for_a_while_loses_nothing(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "RETRY", 0.05)
    monkeypatch.setattr(buffer, "ADOPT_INTERVAL", 0.01)
    with capture_logs() as lines:
        async with running(outbox(bus, tmp_path)) as box:
            await lose(bus, nats_server)
            with full_disk(100_000):
                for n in range(5000):
                    box.record(ServiceStopped(1.0, str(n)))
                await until(lambda: any("cannot use" in line["event"] for line in lines))
                await asyncio.sleep(0.2)  # it can be read meanwhile, which is not enough
            await until(lambda: any("used again" in line["event"] for line in lines))
            await until(lambda: not box._buffer._unstored)
        nats_server.start()
        async with running(outbox(bus, tmp_path, "next")):
            await until(lambda: not list(tmp_path.glob("*.spool")))
    spooling = [line["event"] for line in lines if "the spool" in line["event"]]
    assert spooling == ["cannot use the spool: events wait in memory", "the spool is used again"]
    assert await reasons(bus) == [str(n) for n in range(5000)]


async def test_a_spool_that_is_damaged_while_it_is_used_costs_what_is_not_in_memory(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "MEMORY", 1000)
    with capture_logs() as lines:
        async with running(outbox(bus, tmp_path)) as box:
            await lose(bus, nats_server)
            for n in range(1000):
                box.record(ServiceStopped(1.0, f"{n:>2000}"))
            await until(lambda: not box._buffer._queue)
            damage(tmp_path)
            for n in range(1000, 1010):
                box.record(ServiceStopped(1.0, f"{n:>2000}"))
                await asyncio.sleep(0.01)
            nats_server.start()
            assert await box.flush(DEADLINE)
            box.record(ServiceStopped(1.0, "after"))
            assert await box.flush(DEADLINE)
    assert [line["event"] for line in lines].count("a spool is damaged: its events are lost") == 1
    arrived = [event for batch in await log_with_gaps(bus) for event in batch.events]
    kept = [event.reason.strip() for event in arrived if isinstance(event, ServiceStopped)]
    assert box.dropped + len(kept) == 1011
    assert kept[-1] == "after"


async def test_two_processes_of_a_service_share_a_folder(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    async with running(outbox(bus, tmp_path, "a")) as one, running(outbox(bus, tmp_path, "b")) as other:
        await lose(bus, nats_server)
        for n in range(50):
            one.record(ServiceStopped(1.0, f"a{n}"))
            other.record(ServiceStopped(1.0, f"b{n}"))
            await asyncio.sleep(0.002)
        nats_server.start()
        assert await one.flush(DEADLINE)
        assert await other.flush(DEADLINE)
    said = await reasons(bus)
    assert [reason for reason in said if reason[0] == "a"] == [f"a{n}" for n in range(50)]
    assert [reason for reason in said if reason[0] == "b"] == [f"b{n}" for n in range(50)]


async def test_without_a_stream_everything_waits(bus: Bus, tmp_path: Path) -> None:
    await bus.jetstream.delete_stream(subjects.STREAM)
    with capture_logs() as lines:
        async with running(outbox(bus, tmp_path)) as box:
            box.record(ServiceStopped(1.0, "patient"))
            await until(lambda: list(tmp_path.glob("*.spool")))
            await until(lambda: lines)
            await ensure_streams(bus)
            assert await box.flush(DEADLINE)
    assert await reasons(bus) == ["patient"]
    assert [line["event"] for line in lines] == [
        "the bus does not take events: they wait",
        "the bus takes events again",
    ]
    assert "stream" in lines[0]["reason"]


async def test_a_batch_that_the_bus_can_never_take_holds_nobody_up(bus: Bus, tmp_path: Path) -> None:
    async with running(outbox(bus, tmp_path)) as box:
        box.record(ServiceStopped(1.0, "x" * (2 << 20)), "web")
        await asyncio.sleep(0.02)
        box.record(ServiceStopped(1.0, "next"))
        assert await box.flush(DEADLINE)
    arrived = [event for batch in await log_with_gaps(bus) for event in batch.events]
    assert [type(event) for event in arrived if not isinstance(event, ServiceStopped)] == [EventsDropped]
    assert box.dropped == 1
