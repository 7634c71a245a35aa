"""A gateway of its own process on a real bus, and everything together."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec

from schemas import subjects
from services.common import log
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.log_reader import describe
from services.common.jetstream.object_store import Objects
from services.common.jetstream.provisioning import ensure_streams
from services.demo import releases
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.snapshots.store import Store
from tests.benchmarks import folding
from tests.support.gateway_process import Gateway
from tests.support.harness import Server, wait_for
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

EVENTS_PER_SECOND = 40_000
SCRAPES = 200
CLOSES = 200
COUNT = "dewy_proxy_connection_duration_seconds_count"


class Site(msgspec.Struct):
    """A bus, a connection to it, and a gateway that is not started yet."""

    bus: Bus
    gateway: Gateway


@contextlib.asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    server = NatsServer(directory)
    server.start()
    bus = await Bus.connect("gateway", Credentials([server.url]))
    await ensure_streams(bus)
    settings = GatewaySettings(
        nats_url=[server.url], admin_port=free_port(), telemetry=True, state_dir=str(directory), log_level="error"
    )
    gateway = Gateway(settings, directory / "gateway.log")
    try:
        yield Site(bus, gateway)
    finally:
        gateway.stop()
        await bus.close()
        server.kill()


async def catch_up(site: Site, batches: int) -> float:
    """Events a second that a starting gateway reads from the stream, decodes and folds."""
    for sequence in range(1, batches + 1):
        await publish(site.bus, folding.batch("history", sequence))
    await site.bus.jetstream.publish_async_completed()
    site.gateway.start()
    wait_for("it answers", lambda: answers(site.gateway), timeout=60)
    began = time.perf_counter()
    await site.gateway.until_ready()
    return batches * folding.EVENTS_A_BATCH / (time.perf_counter() - began)


async def saved_and_loaded(site: Site, ports: int) -> list[float]:
    """Seconds to save such a state on the bus and to load it again."""
    stream = await describe(site.bus)
    state = folding.many_ports(ports)
    store = Store(Objects(site.bus, subjects.SNAPSHOTS), log.get("gateway"))
    delays = []
    for _ in range(5):
        began = time.perf_counter()
        await store.save(snapshot.encode(state, stream.created))
        assert await store.load(stream)
        delays.append(time.perf_counter() - began)
    return delays


async def scrapes_under_load(site: Site, ports: int) -> tuple[float, list[float]]:
    """Events a second that arrived, and the seconds that each scrape by another process took meanwhile."""
    for port in range(1, ports + 1):
        await publish(site.bus, folding.batch(f"port-{port}", 1, port))
    command = [sys.executable, "-m", "tests.benchmarks.serving", site.gateway.url]
    scraping = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    began, sequence = time.perf_counter(), 0
    while scraping.returncode is None:
        sequence += 1
        await publish(site.bus, folding.batch("load", sequence))
        due = began + sequence * folding.EVENTS_A_BATCH / EVENTS_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    rate = sequence * folding.EVENTS_A_BATCH / (time.perf_counter() - began)
    output, _ = await scraping.communicate()
    return rate, msgspec.json.decode(output, type=list[float])


async def publish(bus: Bus, payload: bytes) -> None:
    await bus.jetstream.publish_async(subjects.events("proxy", "shop"), payload, wait_stall=30)


def answers(gateway: Gateway) -> bool:
    """Whether its admin port takes requests, also if there is nothing to show yet."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{gateway.url}/healthz/live").is_success
    return False


def scrape(url: str) -> list[float]:
    delays = []
    with httpx.Client(base_url=url, headers={"accept": "application/openmetrics-text; version=1.0.0"}) as client:
        for _ in range(SCRAPES):
            delays.append(folding.seconds(lambda: client.get("/metrics").raise_for_status()))
            time.sleep(0.05)
    return delays


def closed_until_visible(directory: Path) -> list[float]:
    """Seconds from the end of a client's connection until /metrics counts it, each polled every few milliseconds."""
    server = Server(directory, "--stop-containers", "--workers", "1")
    releases.publish(server.registry, releases.FIRST)
    server.start()
    try:
        wait_for("it serves", lambda: server.serves(releases.FIRST))
        return [closed_until_counted(server) for _ in range(CLOSES)]
    finally:
        server.stop()


def closed_until_counted(server: Server) -> float:
    before = server.metrics().get(COUNT, 0.0)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while client.recv(65536):
            pass
    began = time.perf_counter()
    while server.metrics().get(COUNT, 0.0) == before:
        time.sleep(0.002)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(msgspec.json.encode(scrape(sys.argv[1])).decode())
