"""The resources of real processes, and the events that hold them."""

from __future__ import annotations

import asyncio

import msgspec

from schemas import codec
from schemas.codec import Batch
from services.deployer import sampling
from services.deployer.runtime.protocol import Usage
from tests.deployer.runtime.process_host import Host
from tests.support.patience import patience
from tests.support.releases import PYTHON

MiB = 1 << 20
BUSY = (
    "import os, signal, subprocess, sys, time\n"
    "held = bytearray(64 << 20)\n"
    "for start in (False, True):\n"  # one that stays in the session, and one that leaves it
    "    subprocess.Popen([sys.executable, '-c', 'held = bytearray(64 << 20); import time; time.sleep(600)'],"
    " start_new_session=start)\n"
    "while sum(os.times()[:2]) < 0.5: pass\n"
    "print('worked', flush=True)\n"
    "time.sleep(600)\n"
)


async def until(host: Host, name: str, memory: int, cpu: float = 0.0) -> Usage:
    async with asyncio.timeout(patience(60)):
        while True:
            found = (await host.runtime.usage()).get(name)
            if found and found.memory > memory and found.cpu >= cpu:
                return found
            await asyncio.sleep(0.05)


async def test_the_processes_of_a_replica_are_added_up_and_no_others(host: Host) -> None:
    await host.start(PYTHON + BUSY)
    await host.start(PYTHON + "import time; time.sleep(600)", "web-1-1-y", "1.0.1")
    busy = await until(host, "web-1-0-x", 192 * MiB, 0.5)
    idle = await until(host, "web-1-1-y", 0)
    assert idle.memory < 64 * MiB
    assert (busy.received, busy.sent, busy.restarts) == (None, None, 0)
    host.runtime.close()
    host.restart()
    await host.runtime.adopt()
    again = await until(host, "web-1-0-x", 192 * MiB, busy.cpu)
    assert again.cpu >= busy.cpu
    for name in ("web-1-0-x", "web-1-1-y"):
        host.runtime.stop(name, 0.1)
        await host.exit()
    assert await host.runtime.usage() == {}


def test_no_event_outgrows_a_message() -> None:
    most = {f"{number:04}".ljust(120, "x"): Usage(1.0, 1 << 40, 1 << 40, 1 << 40, 1 << 40, 9) for number in range(1000)}
    events = list(sampling.events(1.0, most))
    assert {name for event in events for name in event.cpu} == set(most)
    assert max(len(codec.encode(Batch("deployer", "h", "a", "i", 1, [event]))) for event in events) < 256 << 10
    assert list(sampling.events(1.0, {})) == []


def test_what_a_replica_has_no_value_of_is_left_out() -> None:
    (event,) = sampling.events(1.0, {"a": Usage(1.0, 2), "b": Usage(1.0, 2, 3, 4, 5, 6)})
    assert msgspec.structs.asdict(event) == {
        "time": 1.0,
        "cpu": {"a": 1.0, "b": 1.0},
        "memory": {"a": 2, "b": 2},
        "memory_limit": {"b": 3},
        "received": {"b": 4},
        "sent": {"b": 5},
        "restarts": {"b": 6},
    }
