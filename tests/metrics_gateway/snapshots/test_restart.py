"""A real gateway process, ended or killed and started again, beside one that is never interrupted."""

from __future__ import annotations

import asyncio

import structlog

from schemas import events as e
from schemas import subjects
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import describe
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.snapshots.store import Store
from services.metrics_gateway.state.state import State
from tests.support.gateway_process import DEADLINE, Gateway, Launch, publishing
from tests.support.nats_server import NatsServer

OWN = (
    *(instrument.prometheus for instrument in INSTRUMENTS if instrument.of_process),
    "longshore_gateway_state_age",
    "target_info",
)
MANY = 100_000
"""So many events make a snapshot due at once."""


async def publish(bus: Bus, instance: str, connections: int) -> None:
    async with publishing(bus, "proxy", instance) as proxy:
        for connection in range(connections):
            proxy.record(e.ConnectionAccepted(1.0, connection, 8080), "shop")
            if connection % 10:
                proxy.record(
                    e.ConnectionClosed(
                        1.0, connection, 8080, backend="b", bytes_in=120, bytes_out=4500, duration=0.0123, reason="eof"
                    ),
                    "shop",
                )


async def numbers(gateway: Gateway) -> list[str]:
    """The samples of a scrape, but for those that each gateway says of itself."""
    answer = await gateway.until("/metrics", lambda got: got.status_code == 200)
    return [line for line in answer.text.splitlines() if not line.startswith(("#", *OWN))]


async def until_equal(one: Gateway, other: Gateway) -> list[str]:
    """What both say at a moment at which they have read equally far."""
    for _ in range(int(DEADLINE / 0.05)):
        first, second = await asyncio.gather(numbers(one), numbers(other))
        if first == second:
            return first
        await asyncio.sleep(0.05)
    raise AssertionError(sorted({*first} ^ {*second}))


async def until_saved(bus: Bus) -> State:
    store = Store(Objects(bus, subjects.SNAPSHOTS), structlog.get_logger())
    async with asyncio.timeout(DEADLINE):
        while True:
            state = await store.load(await describe(bus))
            if state:
                return state
            await asyncio.sleep(0.1)


async def until_accepted(gateway: Gateway, count: int) -> None:
    line = f'dewy_proxy_connections_total{{app="shop",host="web-1",proxy_port="8080"}} {count}.0'
    await gateway.until("/metrics", lambda got: line in got.text)


async def test_a_killed_gateway_says_what_one_says_that_was_never_interrupted(launch: Launch, bus: Bus) -> None:
    witness = launch()
    await witness.until_ready()
    await publish(bus, "p-1", MANY)
    await until_accepted(witness, MANY)
    gateway = launch(host="web-2")
    state = await until_saved(bus)
    gateway.kill()
    await publish(bus, "p-2", 50)
    await bus.jetstream.purge_stream(subjects.STREAM, seq=state.position + 1)
    gateway.start()
    await until_accepted(gateway, MANY + 50)
    assert any(line.startswith("dewy_proxy_bytes_transferred_total{") for line in await until_equal(gateway, witness))


async def test_a_gateway_saves_when_it_stops(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish(bus, "p-1", 30)
    await until_accepted(gateway, 30)
    assert gateway.stop() == 0
    await bus.jetstream.purge_stream(subjects.STREAM)
    gateway.start()
    await publish(bus, "p-2", 4)
    await until_accepted(gateway, 34)


async def test_a_gateway_whose_bus_is_away_stops_in_time(launch: Launch, bus: Bus, nats_server: NatsServer) -> None:
    gateway = launch()
    await publish(bus, "p-1", 30)
    await until_accepted(gateway, 30)
    nats_server.kill()
    await gateway.until("/metrics", lambda got: "longshore_bus_connected 0.0" in got.text)
    assert gateway.stop() == 0
    nats_server.start()
    gateway.start()
    await until_accepted(gateway, 30)
