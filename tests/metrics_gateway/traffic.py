"""What the pushed and scraped metrics are made of."""

from __future__ import annotations

import asyncio
import time

from schemas import events as e
from services.common.bus.connection import Bus
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from tests.metrics_gateway.recording import LOG, read, subject
from tests.support.gateway_process import Gateway, publishing
from tests.support.metrics_receiver import Labels

NAMES = {instrument.name: instrument for instrument in INSTRUMENTS}


async def record(bus: Bus) -> None:
    """Put the recorded log on the bus."""
    for index, payload in enumerate(read(LOG)):
        await bus.jetstream.publish(subject(payload), payload, headers={"Nats-Msg-Id": str(index)})


def changes_by_itself(labels: Labels, name: str) -> bool:
    """What is of the gateway, its own process and events, differs from one moment to the next."""
    is_own = ("service", "gateway") in labels
    return is_own or NAMES[name].of_process or name in {"longshore.gateway.events", "longshore.gateway.state.age"}


async def serve(bus: Bus, first: int, last: int) -> None:
    """These connections come and go, a batch each."""
    async with publishing(bus, "proxy", f"p-{first}") as proxy:
        for connection in range(first, last):
            now = time.time()
            proxy.record(e.ConnectionAccepted(now, connection, 8080), "shop")
            proxy.record(e.ConnectionEstablished(now, connection, 8080, backend="b", latency=0.003, attempts=1), "shop")
            proxy.record(
                e.ConnectionClosed(
                    now, connection, 8080, backend="b", bytes_in=100, bytes_out=1000, duration=0.1, reason="eof"
                ),
                "shop",
            )
            await asyncio.sleep(0.01)


async def until_counted(gateway: Gateway, connections: int) -> str:
    """The scrape that shows so many connections."""
    line = f'dewy_proxy_connections_total{{app="shop",host="web-1",proxy_port="8080"}} {connections}.0'
    return (await gateway.until("/metrics", lambda got: line in got.text)).text
