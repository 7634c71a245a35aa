"""The whole proxy on a real bus."""

from __future__ import annotations

import asyncio

from schemas.events import BackendDrained, BackendJoined, BackendLeft, ConnectionClosed, ListenerOpened
from services.common.bus import Bus
from tests.conftest import NatsServer
from tests.proxy.backends import echo, serving
from tests.proxy.proxy_service import proxy


async def exchange(port: int, data: bytes = b"hello") -> bytes:
    """What comes back for `data`, with both ends closed cleanly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_route_is_served_by_all_workers_and_told_to_the_bus(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            assert await exchange(running.port) == b"hello"
            await running.log.wait_for_event(ConnectionClosed)
            assert len(running.log.of(ListenerOpened)) == 1
            assert [event.backend for event in running.log.of(BackendJoined)] == ["a"]
            await running.serve(server.backend("draining"))
            await running.serve()
            assert len(running.log.of(BackendLeft)) == 1
            (drained,) = await running.log.wait_for_event(BackendDrained)
            assert drained.cut == 0
            assert await running.stop() == 0
