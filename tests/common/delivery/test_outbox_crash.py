"""A service that dies at any step between recording and the bus: what was safe arrives, and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import msgspec
import pytest

from schemas import codec
from schemas.chain import SealedBatch, Sealer
from schemas.events import ServiceStopped
from services.common.bus.connection import Bus
from services.common.delivery import buffer
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.outbox import Outbox
from tests.common.delivery.test_outbox import files, log, until
from tests.support.faults import Faults

BATCHES = 5
NEVER = 10**6


class Service:
    """Lives one life after the other; `safe` are the batches that must not be lost any more."""

    def __init__(self, bus: Bus, folder: Path) -> None:
        self.safe: set[tuple[str, int]] = set()
        self._bus = bus
        self._folder = folder
        folder.mkdir()
        self._lives = 0

    async def live(self, faults: Faults, is_bus_there: bool = True) -> None:
        """Record a few batches; end when the bus or the disk has them and the predecessors', or with a crash."""
        self._lives += 1
        instance = f"life-{self._folder.name}-{self._lives:03}"
        disk_queue = DiskQueue(self._folder, "health", instance, 1 << 20)
        outbox = Outbox(self._bus, "health", "host", instance, disk_queue)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buffer, "MEMORY", 0)
            patch.setattr(buffer, "RETRY", 0.01)
            if faults.at == NEVER:  # a look for files is a step: lives that crash must not count many
                patch.setattr(buffer, "ADOPT_INTERVAL", 0.01)
            if not is_bus_there:
                patch.setattr(self._bus.jetstream, "publish_async", self._refuse)
            for name in ("write", "oldest", "sent", "adopt"):
                faults.watch(patch, disk_queue, name)
            faults.watch(patch, self._bus.jetstream, "publish_async")
            running = asyncio.create_task(outbox.run())
            self._record(outbox, instance)
            await until(lambda: faults.is_dead or self._is_done(outbox, is_bus_there, instance))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        with contextlib.suppress(RuntimeError):  # the thread has ended: it has closed the files
            await outbox._buffer._in_thread(partial(_release, disk_queue))

    def _record(self, outbox: Outbox, instance: str) -> None:
        sealer = Sealer("health", "host", instance)
        for number in range(1, BATCHES + 1):
            events = codec.encode_events([ServiceStopped(1.0, str(number))])
            payload = sealer.seal("_", msgspec.Raw(events))
            safe = partial(self.safe.add, (instance, number))
            outbox.forward(SealedBatch("_", f"{instance}:{number}", 1, payload), safe)

    def _is_done(self, outbox: Outbox, is_bus_there: bool, instance: str) -> bool:
        mine = sum(one == instance for one, _ in self.safe) == BATCHES
        others = [name for name in files(self._folder) if instance not in name]
        return mine and (not is_bus_there or (outbox.depth == 0 and not others))

    async def _refuse(self, *_args: object, **_kwargs: object) -> None:
        raise TimeoutError


def _release(disk_queue: DiskQueue) -> None:
    """Release the locks of a process that is dead. Here, tracebacks would hold them until they are collected."""
    for spool in disk_queue._spools:
        spool._connection.close()


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("is_bus_there", [False, True], ids=["bus-away", "bus-there"])
async def test_wherever_a_service_dies_what_was_safe_arrives_and_nothing_twice(
    bus: Bus, tmp_path: Path, is_done: bool, is_bus_there: bool
) -> None:
    crashes = 0
    for at in range(1, 60):
        service = Service(bus, tmp_path / str(at))
        faults = Faults(at, is_done)
        await service.live(faults, is_bus_there)
        crashes += faults.is_dead
        await service.live(Faults(at, not is_done))
        await service.live(Faults(NEVER, False))
        arrived = {(batch.instance, batch.sequence) for batch in await log(bus)}
        assert service.safe - arrived == set()
        assert files(tmp_path / str(at)) == []
        if not faults.is_dead and at > 12:
            break
    assert crashes >= 5
