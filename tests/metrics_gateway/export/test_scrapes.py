"""Many scrapes at once, and one that never reads."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from services.common.bus.connection import Bus
from tests.metrics_gateway.recording import APP, HOST, LOG, PORT, folded, read
from tests.metrics_gateway.traffic import record, until_counted
from tests.support.gateway_process import Gateway, Launch

CLIENTS = 10
SCRAPES = 10


async def recorded(launch: Launch, bus: Bus) -> Gateway:
    """A gateway that has read the recorded log."""
    await record(bus)
    gateway = launch()
    await until_counted(gateway, folded(list(read(LOG))).ports[HOST, APP, PORT].connections)
    return gateway


async def scrape_often(gateway: Gateway) -> set[str]:
    """What the scrapes of one client say of the port, which does not change."""
    found = set()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        for _ in range(SCRAPES):
            answer = (await client.get("/metrics")).raise_for_status()
            found.add("\n".join(line for line in answer.text.splitlines() if "proxy_port=" in line))
    return found


@contextmanager
def deaf(gateway: Gateway) -> Iterator[socket.socket]:
    """A client that asks again and again, and reads nothing."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", gateway.settings.admin_port))
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        yield sock


async def test_ten_clients_at_once_get_the_same_whole_answers(launch: Launch, bus: Bus) -> None:
    gateway = await recorded(launch, bus)
    answers = await asyncio.gather(*(scrape_often(gateway) for _ in range(CLIENTS)))
    assert len(set().union(*answers)) == 1


async def test_clients_that_never_read_keep_nobody_waiting(launch: Launch, bus: Bus) -> None:
    gateway = await recorded(launch, bus)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(deaf(gateway))
        answers = await asyncio.gather(*(scrape_often(gateway) for _ in range(CLIENTS)))
        assert len(set().union(*answers)) == 1
        assert (await gateway.get("/healthz/ready")).status_code == 200
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_a_client_that_sends_its_request_by_the_byte_and_leaves_does_no_harm(launch: Launch, bus: Bus) -> None:
    gateway = await recorded(launch, bus)
    for length in range(1, 25):
        with socket.create_connection(("127.0.0.1", gateway.settings.admin_port)) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"[:length])
    assert len(await scrape_often(gateway)) == 1
