"""A replayed series and scrapes of the gateway give the same rates, quantiles and sums in two real Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import TypeVar

import pytest

from services.common.bus.connection import Bus
from tests.replay.prometheus import Answers, Prometheus, load, prometheus
from tests.replay.recording import GOLDEN
from tests.replay.test_series import traffic
from tests.support.gateway_process import Gateway, Launch
from tests.support.nats_server import NatsServer
from tests.support.program import longshore

INTERVAL = 0.5
BURSTS = 4
SCRAPES = """\
scrape_configs:
  - job_name: longshore
    scrape_interval: {interval}ms
    scrape_timeout: {interval}ms
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
COUNTERS = (
    'group by (__name__) ({__name__=~"(dewy|longshore_(proxy|healthcheck|deployment))_.+_(total|bucket|sum|count)"})'
)
QUERIES = (
    "sum by (app) (rate(dewy_proxy_connections_total[RANGE]))",
    "histogram_quantile(0.5, rate(dewy_proxy_connect_latency_seconds_bucket[RANGE]))",
    "histogram_quantile(0.99, sum by (le) (rate(dewy_proxy_connection_duration_seconds_bucket[RANGE])))",
    "histogram_quantile(0.9, sum by (le, app) (increase(dewy_deployment_duration_seconds_bucket[RANGE])))",
    'sum by (app) (dewy_container_status{state="running"})',
    'count by (app) (dewy_container_status{state="running"} == 1)',
    "sum by (app) (longshore_proxy_backend_connections_active)",
    "rate(dewy_proxy_connect_latency_seconds_sum[RANGE]) / rate(dewy_proxy_connect_latency_seconds_count[RANGE])",
)
T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    async with asyncio.timeout(60):
        while (found := await look()) is None:  # noqa: ASYNC110 - Prometheus does not tell
            await asyncio.sleep(0.1)
    return found


async def folded(gateway: Gateway, bus: Bus) -> int | None:
    """The number of connections on /metrics when all that the log holds is there."""
    last = (await bus.jetstream.stream_info("LONGSHORE")).state.last_seq
    position = (await gateway.get("/api/status")).json()["log"]["position"]
    return position if position >= last else None


def quiet(samples: list[tuple[float, float]], after: int, grid: float | None) -> float | None:
    """The middle one of three scrapes that tell the same of `after` connections, if it came at its time."""
    for (before, first), (moment, value), (behind, last) in zip(samples, samples[1:], samples[2:], strict=False):
        is_steady = first == value == last == after and behind - before < 2.5 * INTERVAL
        if is_steady and (grid is None or place(moment) == grid):
            return moment
    return None


def place(moment: float) -> float:
    """Where between two multiples of the interval, in milliseconds."""
    return round(moment * 1000) % round(INTERVAL * 1000)


async def test_rates_and_quantiles_of_the_replay_are_those_of_the_scrapes(
    launch: Launch, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    gateway = launch()
    await gateway.until_ready()
    config = SCRAPES.format(interval=round(INTERVAL * 1000), port=gateway.settings.admin_port)
    with prometheus(tmp_path, tmp_path / "live", config) as live:
        moments = await moments_between_bursts(gateway, bus, live)
        gateway.stop()
        file, series = str(tmp_path / "a.log"), tmp_path / "series.txt"
        longshore("export", file, "--nats-url", nats_server.url)
        begin = f"@{moments[0] - 20 * INTERVAL:.3f}"
        series.write_bytes(longshore("replay", file, "--every", f"{INTERVAL}s", "--from", begin).stdout)
        with prometheus(tmp_path, await asyncio.to_thread(load, tmp_path, series)) as replayed:
            names = [dict(key)["__name__"] for key in await asyncio.to_thread(live.at, moments[-1], COUNTERS)]
            assert len(names) > 30
            for query in [*QUERIES, *(f"rate({name}[RANGE])" for name in names)]:
                for first, last in [*pairwise(moments), (moments[0], moments[-1])]:
                    expression = query.replace("RANGE", f"{round((last - first + INTERVAL / 2) * 1000)}ms")
                    both = [await asyncio.to_thread(one.at, last, expression) for one in (live, replayed)]
                    expected = without_target(both[0])
                    assert not all(map(isnan, expected.values())), expression
                    assert both[1] == pytest.approx(expected, rel=1e-9, nan_ok=True), expression


async def moments_between_bursts(gateway: Gateway, bus: Bus, live: Prometheus) -> list[float]:
    """When scrapes were made of which nothing happened nearby, one after each burst of traffic."""
    moments: list[float] = []
    for step in range(BURSTS):
        await traffic(bus, step)
        await until(partial(folded, gateway, bus))
        grid = place(moments[0]) if moments else None
        moments.append(await until(partial(quiet_scrape, live, 50 * (step + 1), grid)))
    return moments


async def quiet_scrape(live: Prometheus, connections: int, grid: float | None) -> float | None:
    samples = await asyncio.to_thread(live.samples, "dewy_proxy_connections_total[5m]")
    return quiet(samples, connections, grid)


def without_target(answers: Answers) -> Answers:
    """What Prometheus adds to the series of a target it scrapes."""
    return {tuple(one for one in key if one[0] not in ("instance", "job")): value for key, value in answers.items()}


def test_other_buckets_are_in_the_series_that_prometheus_loads(tmp_path: Path) -> None:
    words = ("replay", str(GOLDEN), "--buckets", "dewy.proxy.connect.latency=0.00001,0.0003,0.0015,2")
    points = [json.loads(line) for line in longshore(*words, "--format", "json").stdout.splitlines()]
    (latency,) = [one for one in points if one["metric"] == "dewy.proxy.connect.latency"]
    series = tmp_path / "series.txt"
    series.write_bytes(longshore(*words, "--every", "1s").stdout)
    last = max(float(line.split()[-1]) for line in series.read_text().splitlines() if not line.startswith("#"))
    with prometheus(tmp_path, load(tmp_path, series)) as server:
        buckets = server.at(last, "dewy_proxy_connect_latency_seconds_bucket")
        assert {float(dict(key)["le"]): value for key, value in buckets.items()} == {
            float(bound): count for bound, count in latency["buckets"].items()
        }
        assert len(set(buckets.values())) > 2
        (quantile,) = server.at(last, "histogram_quantile(0.5, dewy_proxy_connect_latency_seconds_bucket)").values()
    assert 0 < quantile < 2
