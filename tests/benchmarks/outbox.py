"""What the way to the bus costs: `python -m tests.benchmarks.outbox` prints it.

Batches of 256 connections' worth of events, as a busy proxy seals them, and of one event, as quiet services do.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import msgspec

from schemas.chain import SealedBatch, Sealer
from schemas.codec import encode_events
from schemas.events import ConnectionAccepted
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.outbox import Outbox
from services.common.jetstream.provisioning import ensure_streams
from tests.support.nats_server import NatsServer

COUNT = 10_000


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder))
        server.start()
        try:
            for events in (1, 256):
                await measure(server, Path(folder) / "spool", events)
        finally:
            server.kill()


async def measure(server: NatsServer, folder: Path, events: int) -> None:
    bus = await Bus.connect("proxy", Credentials([server.url]))
    await ensure_streams(bus)
    tell(events, "to the bus, in memory only", *await send(bus, None, events, "memory"))
    tell(events, "to the bus, with a spool", *await send(bus, folder, events, "spool"))
    server.kill()
    while bus.is_connected:  # noqa: ASYNC110 - a condition without an event
        await asyncio.sleep(0.01)
    disk = disk_queue(folder, "away")
    outbox = Outbox(bus, "proxy", "host", "away", disk)
    running = asyncio.create_task(outbox.run())
    began, used = time.perf_counter(), time.process_time()
    add(outbox, "away", events)
    while disk.batches < COUNT:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    tell(events, "to disk, the bus away", time.perf_counter() - began, time.process_time() - used)
    began, used = time.perf_counter(), time.process_time()
    server.start()
    assert await outbox.flush(120)
    tell(events, "from disk to the bus that is back", time.perf_counter() - began, time.process_time() - used)
    await end(running)
    await bus.close()


async def send(bus: Bus, folder: Path | None, events: int, instance: str) -> tuple[float, float]:
    outbox = Outbox(bus, "proxy", "host", f"{instance}-{events}", disk_queue(folder, instance) if folder else None)
    running = asyncio.create_task(outbox.run())
    began, used = time.perf_counter(), time.process_time()
    add(outbox, f"{instance}-{events}", events)
    assert await outbox.flush(120)
    result = time.perf_counter() - began, time.process_time() - used
    await end(running)
    return result


def disk_queue(folder: Path, instance: str) -> DiskQueue:
    return DiskQueue(folder, "proxy", instance, 1 << 30)


def add(outbox: Outbox, instance: str, events: int) -> None:
    sealer = Sealer("proxy", "host", instance)
    encoded = msgspec.Raw(encode_events([ConnectionAccepted(1.0, n, 80) for n in range(events)]))
    for _ in range(COUNT):
        payload = sealer.seal("web", encoded)
        outbox.forward(SealedBatch("web", f"{instance}:{sealer.sequence}", events, payload))


async def end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def tell(events: int, what: str, seconds: float, cpu: float) -> None:
    rate = COUNT / seconds
    print(f"{events:>4} events a batch, {what:<36} {rate:>9,.0f} batches/s {cpu / COUNT * 1e6:>7.1f} us of CPU a batch")


if __name__ == "__main__":
    asyncio.run(main())
