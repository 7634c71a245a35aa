"""What the demo says when something is not as it expects."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from services.client.client import Client
from services.common.errors import LongshoreError
from services.demo import scenario
from services.demo.client import Traffic
from services.demo.main import _follow
from services.demo.scenario import Summary
from services.demo.story import DemoState


class Metrics(http.server.BaseHTTPRequestHandler):
    text = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


async def test_it_asks_this_host_without_an_http_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(Metrics, "text", b"dewy_deployments_total 2\ndewy_proxy_connections_total 7\n")
    assert (await scenario._counted(url, Traffic(connections=7)))["dewy_proxy_connections_total"] == 7


async def test_a_metric_that_is_not_there_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "COUNT_TIMEOUT", 0.2)
    monkeypatch.setattr(Metrics, "text", b"dewy_deployments_total 2\n")
    with pytest.raises(LongshoreError, match="has no dewy_proxy_connections_total"):
        await scenario._counted(url, Traffic())


async def test_metrics_that_cannot_be_read_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LongshoreError, match=r"http://127\.0\.0\.1:9/metrics does not answer"):
        await scenario._counted("http://127.0.0.1:9/metrics", Traffic())


@pytest.mark.parametrize("error", [RuntimeError("a bug"), None])
async def test_a_log_that_cannot_be_followed_is_reported(error: Exception | None) -> None:
    class Broken:
        async def events(self, _start: int) -> Any:
            if error:
                raise error
            no_events: list[object] = []
            for event in no_events:
                yield event

    async with asyncio.timeout(10):
        with pytest.raises(LongshoreError, match="cannot follow the event log"):
            await _follow(cast(Client, Broken()), DemoState())


def test_a_foreign_client_is_named_as_what_it_may_be() -> None:
    (problem,) = Summary(10, 0, 2, 1, 30, 10, 11, 1.0).problems
    assert problem.startswith("10 connections made, 11 counted (did another program")
