"""A megabyte of random bytes on every subject: one line each, and everything goes on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import signal
import socket
from collections.abc import Callable

from schemas import subjects
from services.common.bus import credentials, deadline
from services.common.bus.connection import Bus
from services.common.config.settings import Settings
from services.demo import releases
from tests.support.harness import Server, Traffic, wait_for

SIZE = 1 << 20
HOST = subjects.token(socket.gethostname())


def events() -> list[str]:
    return [subjects.events(service, app) for service in subjects.SERVICES for app in ("web", subjects.NO_APP)]


async def keys(bus: Bus) -> list[str]:
    """Every key that is there, and one more of each bucket."""
    found = []
    for bucket in subjects.BUCKETS:
        info = await bus.jetstream.stream_info(f"KV_{bucket}", subjects_filter=f"$KV.{bucket}.>")
        found += [*(info.state.subjects or {}), f"$KV.{bucket}.{HOST}.web.rubbish", f"$KV.{bucket}.rubbish"]
    return found


def objects() -> list[str]:
    names = [base64.urlsafe_b64encode(name.encode()).decode() for name in ("state-0", "state-1", "rubbish")]
    store = f"$O.{subjects.SNAPSHOTS}"
    return [*(f"{store}.M.{name}" for name in names), f"{store}.C.rubbish"]


async def throw(one: Server) -> int:
    """Random bytes at everything; how many messages of the log that makes."""
    bytes_ = random.Random(3)
    bus = await Bus.connect("admin", credentials.find(Settings(state_dir=one.state), "admin"))
    try:
        kept = [*events(), *await keys(bus), *objects()]
        for subject in kept:
            await bus.jetstream.publish(subject, bytes_.randbytes(SIZE))
        inboxes = [f"_INBOX_{service}.rubbish" for service in subjects.SERVICES]
        for subject in inboxes:
            await bus.client.publish(subject, bytes_.randbytes(SIZE))
        await command(one, bytes_)
        for subject in await keys(bus):
            if subject.endswith("rubbish"):
                await bus.jetstream.publish(subject, b"", headers={"KV-Operation": "DEL"})
        await bus.client.flush(20)
    finally:
        await bus.close()
    return len(events())


async def command(one: Server, bytes_: random.Random) -> None:
    """Random bytes to the deployer, as somebody who may command it: without a deadline, and with one."""
    bus = await Bus.connect("cli", credentials.find(Settings(state_dir=one.state), "cli"))
    subject = subjects.commands("web", socket.gethostname())
    try:
        await bus.client.publish(subject, bytes_.randbytes(SIZE))
        answer = await bus.client.request(subject, bytes_.randbytes(SIZE), timeout=20)
        assert b"no deadline" in answer.data
        now = await bus.client.request(subject, timeout=20, headers={deadline.ASK: deadline.CLOCK})
        headers = {deadline.DEADLINE: str(deadline.parse(now.data.decode()).later(60))}
        answer = await bus.client.request(subject, bytes_.randbytes(SIZE), timeout=20, headers=headers)
        assert b"not a command" in answer.data
    finally:
        await bus.close()


def _are_all_new(before: dict[str, int], now: dict[str, int]) -> bool:
    """Whether every service runs, and all but the bus as another process."""
    return now.keys() == before.keys() and all(now[name] != pid for name, pid in before.items() if name != "bus")


def test_random_bytes_on_every_subject_harm_nothing(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2", "--workers", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    before = one.children()
    with Traffic(one.port) as traffic:
        traffic.wait_for_more(20)
        thrown = asyncio.run(throw(one))
        wait_for("it is counted", lambda: one.metrics().get("longshore_gateway_batches_undecodable_total") == thrown)
        traffic.wait_for_more(50)
        assert one.children() == before
        releases.publish(one.registry, releases.SECOND)
        wait_for("a new release rolls out", lambda: one.serves(releases.SECOND), 90)
        for service in ("gateway", "health", "deployer", "proxy"):
            os.kill(one.children()[service], signal.SIGKILL)
        wait_for("the killed come back", lambda: _are_all_new(before, one.children()))
        traffic.wait_for_more(50)
        wait_for("metrics are back", one.metrics)
    assert traffic.refused == 0
    assert traffic.broken == []
    with contextlib.suppress(AssertionError):
        wait_for("every connection is counted", lambda: _counted(one) == traffic.answered, 90)
    assert _counted(one) == traffic.answered
    log = one.log.read_text()
    assert "Traceback" not in log
    gateways = 2
    assert 1 <= log.count("messages of the log are not batches of events") <= gateways


def _counted(one: Server) -> float:
    return one.metrics().get("dewy_proxy_connections_total", 0)
