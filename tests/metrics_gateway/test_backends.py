"""A hundred thousand backends over time, in a gateway that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.common.bus.connection import Bus
from services.common.process.lifecycle import resident_bytes
from services.metrics_gateway.state.port import MANY
from tests.metrics_gateway.export.test_scrapes import CLIENTS, deaf, scrape_often
from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import Receiver, metrics, points, receiving, scraped

BACKENDS = 100_000
EACH = 100
MOST_MEMORY = 64 << 20
"""What the gateway may grow by; a state that kept all would grow by several hundred MB."""


def batches(first: int, last: int) -> Iterator[bytes]:
    """Backends that join, serve a connection and leave, in batches of so many."""
    for start in range(first, last, EACH):
        events: list[e.AnyEvent] = []
        for number in range(start, start + EACH):
            name = f"web-{number}"
            events += [
                e.BackendJoined(1.0, 80, name, "127.0.0.1:1"),
                e.ConnectionAccepted(1.0, number, 80),
                e.ConnectionEstablished(1.0, number, 80, backend=name, latency=0.01, attempts=1),
                e.ConnectionClosed(1.0, number, 80, backend=name, bytes_in=1, bytes_out=1, duration=0.1, reason="eof"),
                e.BackendLeft(1.0, 80, name),
            ]
        yield codec.encode(Batch("proxy", "web-1", "shop", "p", start // EACH + 1, events))


async def publish(bus: Bus, gateway: Gateway, first: int, last: int) -> None:
    for payload in batches(first, last):
        await bus.jetstream.publish("longshore.events.proxy.shop", payload)
    counted = f'dewy_proxy_connections_total{{app="shop",host="web-1",proxy_port="80"}} {last}.0'
    await gateway.until("/metrics", lambda got: counted in got.text)


def pushed(receiver: Receiver) -> int:
    """Of how many backends the next whole push tells, which is several requests."""
    receiver.last()
    while (name := "longshore.proxy.backend.connections") not in (found := metrics(receiver.requests.get(timeout=30))):
        pass
    return len(points(found[name]))


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_backends_cost_the_memory_and_the_series_of_a_few(launch: Launch, bus: Bus) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.5)
        await publish(bus, gateway, 0, BACKENDS // 10)
        before = resident_bytes(gateway.pid)
        await publish(bus, gateway, BACKENDS // 10, BACKENDS)
        with deaf(gateway):
            await asyncio.gather(*(scrape_often(gateway) for _ in range(CLIENTS)))
        assert await asyncio.to_thread(pushed, receiver) <= MANY + EACH
        assert resident_bytes(gateway.pid) - before < MOST_MEMORY
        found = scraped((await gateway.get("/metrics")).text)
        assert len(found["longshore_proxy_backend_connections_total"]) <= MANY + EACH
        assert sum(found["dewy_proxy_connect_latency_seconds_count"].values()) == BACKENDS
        assert gateway.stop() == 0
