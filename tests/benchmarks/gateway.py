"""What the gateway can do: `python -m tests.benchmarks.gateway` prints the figures of docs/performance.md.

The fold alone, beside the same measurements through other libraries; a gateway that reads a real bus; the way of an
event from a closed connection to /metrics, through everything; and two gateways of which one is killed.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold import expiry
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.state import State
from tests.benchmarks import folding, serving, takeover

BATCHES = 2000
BACKLOG = 6000
SERIES = 10_000
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def main() -> None:
    fold_alone()
    many_series()
    many_connections()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(behind_a_bus(Path(directory)))
    with tempfile.TemporaryDirectory() as directory:
        through_everything(Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        delays = asyncio.run(takeover.takeovers(Path(directory)))
        say("a killed leader replaced", f"{statistics.median(delays):.2f} s median, {max(delays):.2f} s at most")


def fold_alone() -> None:
    payloads = folding.mix(BATCHES)
    say("decode alone", f"{folding.rate(folding.decode_only, payloads):,.0f} events/s")
    say("decode and fold", f"{folding.rate(folding.fold, payloads):,.0f} events/s")
    say("the same through the SDK", f"{folding.rate(folding.through_the_sdk, payloads[:100]):,.0f} events/s")
    say("the same, prometheus_client", f"{folding.rate(folding.through_the_client, payloads[:100]):,.0f} events/s")


def many_series() -> None:
    state = folding.many_ports(ports_for(SERIES))
    exporter = Exporter(lambda: Measurement(state, 2.0, "0", True, {}), {})
    say("series", f"{series(state):,}")
    delays = [folding.seconds(lambda: exporter.expose(OPENMETRICS, "gzip")) for _ in range(5)]
    say("one scrape rendered", milliseconds(delays))


def many_connections() -> None:
    """What the answers cost that the loop gives while it folds, with few and with many open connections."""
    for connections, held in ((100, 0), (10_000, 200)):
        for name, work in _answers(folding.many_open(connections, held)).items():
            delays = [folding.seconds(work) for _ in range(50)]
            say(f"{name}, {connections + held:,} open", milliseconds(delays))


def _answers(state: State) -> dict[str, Callable[[], object]]:
    exporter = Exporter(lambda: Measurement(state, 2.0, "0", True, {}), {})
    return {
        "scrape": lambda: exporter.expose(OPENMETRICS, "gzip"),
        "upkeep, every 15 s": partial(_upkeep, state),
        "snapshot": lambda: snapshot.encode(state, "s"),
    }


def _upkeep(state: State) -> None:
    state.next_expiry = 0.0
    expiry.advance(state, 1.0)


def ports_for(wanted: int) -> int:
    """How many ports it takes for so many series."""
    each = (series(folding.many_ports(20)) - series(folding.many_ports(10))) / 10
    return math.ceil(wanted / each)


def series(state: State) -> int:
    exporter = Exporter(lambda: Measurement(state, 2.0, "0", True, {}), {})
    return sum(not line.startswith(b"#") for line in exporter.expose("", "").body.splitlines())


async def behind_a_bus(directory: Path) -> None:
    async with serving.site(directory) as site:
        say("from the stream", f"{await serving.catch_up(site, BACKLOG):,.0f} events/s")
        say("snapshot of 10,000 series", milliseconds(await serving.saved_and_loaded(site, ports_for(SERIES))))
        rate, delays = await serving.scrapes_under_load(site, ports_for(SERIES))
        say("events while scraped", f"{rate:,.0f} events/s")
        say("scrape of these series", milliseconds(delays))


def through_everything(directory: Path) -> None:
    say("closed until on /metrics", milliseconds(serving.closed_until_visible(directory)))


def milliseconds(delays: list[float]) -> str:
    """The median, and what 99 of 100 stay below."""
    ordered = sorted(delays)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    median = f"{statistics.median(ordered) * 1000:,.1f} ms"
    return median if len(ordered) < 100 else f"{median} median, {p99 * 1000:,.1f} ms p99 of {len(ordered)}"


def say(what: str, figure: str) -> None:
    print(f"{what:<28} {figure:>20}", flush=True)


if __name__ == "__main__":
    main()
