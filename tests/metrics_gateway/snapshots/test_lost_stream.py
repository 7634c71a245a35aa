"""A stream that is deleted under a gateway process: it says so, goes on, and counts what it never saw."""

from __future__ import annotations

import os
import signal

from schemas import events as e
from schemas import subjects
from services.common.bus.connection import Bus
from services.common.delivery.outbox import Outbox
from services.common.jetstream.provisioning import ensure_streams
from services.metrics_gateway.snapshots.store import REPLACED
from tests.support.gateway_process import DEADLINE, Gateway, Launch, publishing

CONNECTIONS = 'dewy_proxy_connections_total{app="shop",host="web-1",proxy_port="8080"}'
MISSING = "longshore_gateway_batches_missing"


async def tell(proxy: Outbox, first: int, count: int) -> None:
    """Have the log hold so many connections more."""
    for number in range(first, first + count):
        proxy.record(e.ConnectionAccepted(1.0, number, 8080), "shop")
    assert await proxy.flush(DEADLINE)


async def until_counted(gateway: Gateway, connections: int, missing: int) -> None:
    lines = (f"{CONNECTIONS} {connections}.0\n", f"{MISSING} {missing}.0\n")
    await gateway.until("/metrics", lambda answer: all(line in answer.text for line in lines))


async def test_what_was_deleted_unread_is_counted_and_told_in_one_line(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await gateway.until_ready()
    async with publishing(bus, "proxy", "p-1") as proxy:
        await tell(proxy, 0, 5)
        await until_counted(gateway, 5, 0)
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            for first, count in ((5, 3), (8, 2)):  # no consumer of the gateway ever sees the stream of the first ones
                await bus.jetstream.delete_stream(subjects.STREAM)
                await ensure_streams(bus)
                await tell(proxy, first, count)
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        await until_counted(gateway, 7, 1)
    said = gateway.log.read_text()
    assert said.count(REPLACED) == 1
    assert "Traceback" not in said
    assert (await gateway.get("/healthz/ready")).status_code == 200


async def test_a_gateway_makes_a_deleted_stream_anew_and_loses_nothing_that_was_read(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await gateway.until_ready()
    async with publishing(bus, "proxy", "p-1") as proxy:
        await tell(proxy, 0, 5)
        await until_counted(gateway, 5, 0)
        await bus.jetstream.delete_stream(subjects.STREAM)
        await tell(proxy, 5, 4)
        await until_counted(gateway, 9, 0)
    assert gateway.log.read_text().count(REPLACED) == 1
