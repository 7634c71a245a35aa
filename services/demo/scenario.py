"""The scenario of the demo: a first release, traffic, a second release, a broken one, and the count at the end."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from services.common.errors import LongshoreError
from services.demo import releases
from services.demo.client import Traffic, TrafficClient
from services.demo.story import DemoState

STEP_TIMEOUT = 60.0
COUNT_TIMEOUT = 15.0
LULL = 2.0
DEPLOYMENTS, CONNECTIONS = "dewy_deployments_total", "dewy_proxy_connections_total"


class Summary(msgspec.Struct, frozen=True):
    """The result: the counts of the clients, of the log and of /metrics."""

    requests: int
    failed_requests: int
    deployments: int
    rollbacks: int
    events: int
    connections_made: int
    connections_counted: int
    duration_seconds: float

    @property
    def problems(self) -> list[str]:
        """The problems of the result; none when all counts agree."""
        found = []
        if self.failed_requests:
            found.append(f"{self.failed_requests} requests failed")
        if self.connections_made != self.connections_counted:
            found.append(f"{self.connections_made} connections made, {self.connections_counted} counted")
        if self.connections_made < self.connections_counted:
            found[-1] += " (did another program, a browser perhaps, connect to the demo's port meanwhile?)"
        return found


async def play(registry: Path, client: TrafficClient, state: DemoState, metrics_url: str) -> Summary:
    """Run the scenario to its end. Raises LongshoreError when a step times out."""
    began = time.monotonic()
    await _step("the first release serves", state.until_succeeded(releases.FIRST))
    asking = asyncio.create_task(client.run())
    await asyncio.sleep(LULL)
    releases.publish(registry, releases.SECOND)
    await _step("the second release serves", state.until_succeeded(releases.SECOND))
    await asyncio.sleep(LULL)
    releases.publish(registry, releases.BROKEN)
    await _step("the broken release is rolled back", state.until_quarantined(releases.BROKEN))
    await asyncio.sleep(LULL)
    client.stop()
    await asking
    metrics = await _counted(metrics_url, client.traffic)
    return Summary(
        requests=client.traffic.requests,
        failed_requests=len(client.traffic.failures),
        deployments=int(metrics[DEPLOYMENTS]),
        rollbacks=state.rollbacks,
        events=state.events,
        connections_made=client.traffic.connections,
        connections_counted=int(metrics[CONNECTIONS]),
        duration_seconds=round(time.monotonic() - began, 3),
    )


async def _step(what: str, waiting: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            await waiting
    except TimeoutError:
        raise LongshoreError(f"timeout: the demo waited {STEP_TIMEOUT:g} s until {what}") from None


async def _counted(url: str, traffic: Traffic) -> dict[str, float]:
    """Return the sums on /metrics, once the last connection has arrived there or the wait for it is over.

    Raises LongshoreError when /metrics does not answer or lacks a metric.
    """
    deadline = time.monotonic() + COUNT_TIMEOUT
    while True:
        sums, is_late = totals(await asyncio.to_thread(_get, url)), time.monotonic() > deadline
        missing = [name for name in (DEPLOYMENTS, CONNECTIONS) if name not in sums]
        if missing and is_late:
            raise LongshoreError(f"{url} has no {missing[0]}: the gateway does not have the events of the demo")
        if not missing and (is_late or sums[CONNECTIONS] >= traffic.connections):
            return sums
        await asyncio.sleep(0.1)


def _get(url: str) -> str:
    """Return the text at a URL of this host, without any HTTP proxy of the environment."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError as error:
        raise LongshoreError(f"{url} does not answer: {error}") from None


def totals(exposition: str) -> dict[str, float]:
    """Return the sum over all label values of each sample name of a Prometheus text."""
    sums: dict[str, float] = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums
