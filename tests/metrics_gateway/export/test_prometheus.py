"""A real Prometheus scrapes a real gateway."""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from schemas import events as e
from services.common.bus.connection import Bus
from services.common.delivery.outbox import Outbox
from tests.contract.contract import queries
from tests.support.gateway_process import DEADLINE, Launch, publishing, running
from tests.support.ports import free_port

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: dewy
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Prometheus:
    """A client of a Prometheus server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def query(self, expression: str) -> list[dict[str, Any]]:
        answer = await self.client.get("/query", params={"query": expression})
        result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return result

    async def until_there_is(self, expression: str) -> list[dict[str, Any]]:
        """The first result in which every value is a number."""
        result: list[dict[str, Any]] = []
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                result = await self.query(expression)
            except httpx.HTTPError:  # it is starting
                result = []
            if result and not any(math.isnan(float(one["value"][1])) for one in result):
                return result
            await asyncio.sleep(0.2)
        raise AssertionError(f"{expression}: {result}")


async def serve_for_ever(proxy: Outbox, deployer: Outbox) -> None:
    """A listener with steady connections, and a deployment now and then."""
    proxy.record(e.ListenerOpened(time.time(), 8080, "0.0.0.0"), "shop")
    deployer.record(e.ServiceStarted(time.time(), "deployer:shop", "0.1.0", 1))
    connection = 0
    while True:
        await asyncio.sleep(0.2)
        connection += 1
        now = time.time()
        proxy.record(e.ConnectionAccepted(now, connection, 8080), "shop")
        proxy.record(e.ConnectionEstablished(now, connection, 8080, backend="b", latency=0.003, attempts=1), "shop")
        proxy.record(
            e.ConnectionClosed(
                now, connection, 8080, backend="b", bytes_in=100, bytes_out=1000, duration=0.1, reason="eof"
            ),
            "shop",
        )
        deployer.record(e.DeploymentSucceeded(now, f"d{connection}", f"v{connection}", 2.0), "shop")


@asynccontextmanager
async def serving(bus: Bus) -> AsyncIterator[None]:
    """Traffic while inside."""
    async with publishing(bus, "proxy", "p") as proxy, publishing(bus, "deployer", "d") as deployer:
        traffic = asyncio.create_task(serve_for_ever(proxy, deployer))
        try:
            yield
        finally:
            traffic.cancel()
            await asyncio.gather(traffic, return_exceptions=True)


async def test_every_query_of_the_documents_returns_data(launch: Launch, bus: Bus, tmp_path: Path) -> None:
    gateway = launch()
    await gateway.until_ready()
    config, port = tmp_path / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(port=gateway.settings.admin_port))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with running(command, tmp_path / "prometheus.log"):
        async with serving(bus), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            prometheus = Prometheus(client)
            (target,) = await prometheus.until_there_is("up")
            assert target["value"][1] == "1"
            assert len(queries()) == 5
            for query in queries():
                result = await prometheus.until_there_is(query.expr)
                assert result[0]["metric"]["app"] == "shop"
            await prometheus.until_there_is("rate(dewy_proxy_connections_total[5m]) > 0")
            await prometheus.until_there_is("increase(dewy_deployments_total[1h]) > 0")


async def test_promtool_finds_nothing_to_complain_about(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    async with serving(bus):
        answer = await gateway.until("/metrics", lambda got: 'dewy_deployments_total{app="shop"' in got.text)
    checked = await asyncio.to_thread(check_metrics, answer.content)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def check_metrics(text: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
