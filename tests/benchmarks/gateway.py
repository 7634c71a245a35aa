"""How fast the gateway folds, beside the same measurements through synchronous OpenTelemetry instruments.

`python -m tests.benchmarks.gateway` prints events a second on one core, for the proxy's mix of events, and the delay
of scrapes while a backlog is folded.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import httpx
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.common.reader import Entry
from services.metrics_gateway import api, service
from services.metrics_gateway.fold import apply
from services.metrics_gateway.instrument import Moment
from services.metrics_gateway.live import Live
from services.metrics_gateway.prometheus import Exporter
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.state import State
from tests.conftest import free_port

CONNECTIONS_A_BATCH = 170
BATCHES = 2000
ROUNDS = 3
SCRAPES = 200


def mix(batches: int) -> list[bytes]:
    """Batches of accepted, established and closed connections, as a proxy worker sends them."""
    payloads = []
    for sequence in range(1, batches + 1):
        events: list[e.AnyEvent] = []
        for n in range(CONNECTIONS_A_BATCH):
            number = sequence * CONNECTIONS_A_BATCH + n
            events.append(e.ConnectionAccepted(1.0, number, 8080))
            events.append(e.ConnectionEstablished(1.0, number, 8080, "shop-1-abcd", 0.0004, 1))
            events.append(e.ConnectionClosed(1.0, number, 8080, "shop-1-abcd", 120, 4500, 0.0123, "eof"))
        payloads.append(codec.encode(Batch("proxy", "web-1", "shop", "worker", sequence, events)))
    return payloads


def decode_only(payloads: list[bytes]) -> None:
    for payload in payloads:
        codec.decode(payload)


def fold(payloads: list[bytes]) -> None:
    state = State()
    for position, payload in enumerate(payloads, 1):
        apply(state, position, 1.0, payload)


def synchronous_instruments(payloads: list[bytes]) -> None:
    """The same six measurements a connection, each through an instrument of the SDK."""
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("benchmark")
    connections, active = meter.create_counter("connections"), meter.create_up_down_counter("active")
    transferred = meter.create_counter("bytes")
    latency, duration = meter.create_histogram("latency"), meter.create_histogram("duration")
    labels = {"proxy_port": "8080", "app": "shop", "host": "web-1"}
    for payload in payloads:
        for event in codec.decode(payload).batch.events:
            if isinstance(event, e.ConnectionAccepted):
                connections.add(1, labels)
                active.add(1, labels)
            elif isinstance(event, e.ConnectionEstablished):
                latency.record(event.latency, labels)
            elif isinstance(event, e.ConnectionClosed):
                active.add(-1, labels)
                transferred.add(event.bytes_in + event.bytes_out, labels)
                duration.record(event.duration, labels)


def rate(work: Callable[[list[bytes]], None], payloads: list[bytes]) -> float:
    """Events a second, the best of a few rounds."""
    events = len(payloads) * CONNECTIONS_A_BATCH * 3
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work(payloads)
        best = min(best, time.perf_counter() - began)
    return events / best


def render(series: int) -> float:
    """Seconds that one scrape of so many ports takes to render."""
    state = State()
    for port in range(series):
        opened = Batch("proxy", "web-1", "shop", "worker", port + 1, [e.ListenerOpened(1.0, port, "0.0.0.0")])
        apply(state, port + 1, 1.0, codec.encode(opened))
    exporter = Exporter(lambda: Moment(state, 2.0, "0", True, {}), {})
    began = time.perf_counter()
    exporter.expose("", "gzip")
    return time.perf_counter() - began


class Backlog(Live):
    """A gateway that always has more to fold."""

    def __init__(self) -> None:
        super().__init__(bus=None)  # type: ignore[arg-type]  # nothing is read from a bus here
        self.backlog = 0

    @property
    def is_connected(self) -> bool:
        return True


async def scrapes_during_a_burst(payloads: list[bytes]) -> list[float]:
    """Seconds that each scrape by another process took while this event loop folded without a pause."""
    live, settings, stopping = Backlog(), GatewaySettings(admin_port=free_port(), telemetry=True), asyncio.Event()
    app = api.create(settings, live, Exporter(live.moment, {}))
    serving = asyncio.create_task(api.serve(app, api.listen(settings), stopping))
    entries = [Entry(position, "s", payload, 0, 1.0) for position, payload in enumerate(payloads, 1)]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        scraping = asyncio.get_running_loop().run_in_executor(pool, scrape, settings.admin_port)
        while not scraping.done():
            live.state = State()
            await service._fold(live, entries)
        stopping.set()
        await serving
        return await scraping


def scrape(port: int) -> list[float]:
    delays = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(SCRAPES):
            began = time.perf_counter()
            client.get("/metrics").raise_for_status()
            delays.append(time.perf_counter() - began)
    return delays


def main() -> None:
    payloads = mix(BATCHES)
    print(f"decode alone             {rate(decode_only, payloads):12,.0f} events/s")
    print(f"decode and fold          {rate(fold, payloads):12,.0f} events/s")
    print(f"synchronous instruments  {rate(synchronous_instruments, payloads[:100]):12,.0f} events/s")
    print(f"render 100 ports         {render(100) * 1000:12.1f} ms")
    delays = asyncio.run(scrapes_during_a_burst(payloads))
    print(f"scrape during a burst    {statistics.median(delays) * 1000:12.1f} ms median of {len(delays)}")
    print(f"                         {max(delays) * 1000:12.1f} ms at most")


if __name__ == "__main__":
    main()
