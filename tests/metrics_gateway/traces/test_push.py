"""Spans that reach a collector: a real gateway, a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.common.bus.connection import Bus
from tests.metrics_gateway.traces.story import OTHER, TRACE, failed, succeeded
from tests.support.gateway_process import Gateway, Launch, publishing, running
from tests.support.ports import free_port
from tests.support.traces_receiver import Traces, receiving

PARENT = "00f067aa0ba902b7"


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def port(traces: Traces) -> Iterator[int]:
    with receiving(traces) as port:
        yield port


async def record(bus: Bus, instance: str, events: list[object]) -> None:
    async with publishing(bus, "deployer", instance) as outbox:
        for event in events:
            outbox.record(event, "web")  # type: ignore[arg-type]  # they are events


async def started(launch: Launch, port: int, **options: object) -> Gateway:
    gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, **options)
    await gateway.until_ready()
    return gateway


async def test_a_deployment_arrives_as_one_trace(launch: Launch, bus: Bus, traces: Traces, port: int) -> None:
    await record(bus, "deployer-1", [*succeeded()])
    await started(launch, port)
    await asyncio.to_thread(traces.until, lambda: len(traces.spans) >= 8)
    (root,) = traces.named("deployment of web")
    assert {span.trace for span in traces.spans} == {TRACE}
    assert {span.parent for span in traces.spans if span is not root} == {root.id}
    assert (root.start, root.end) == (999_500_000_000, 1_009_000_000_000)
    assert root.attributes["longshore.release"] == "2.0.0"


async def test_a_gateway_that_starts_again_tells_no_span_twice_and_forgets_none(
    launch: Launch, bus: Bus, traces: Traces, port: int
) -> None:
    await record(bus, "deployer-1", [*succeeded(), *failed()[:3]])
    first = await started(launch, port)
    await asyncio.to_thread(traces.until, lambda: len(traces.spans) == 8)
    first.stop()
    await record(bus, "deployer-2", [*failed()[3:]])
    await started(launch, port)
    await asyncio.to_thread(traces.until, lambda: len(traces.named("deployment of web")) == 2)
    assert traces.named("deployment of web")[1].error == "check: answers 500"
    assert len({(span.trace, span.id) for span in traces.spans}) == len(traces.spans)


async def test_a_collector_that_refuses_costs_a_line_and_a_counter_and_gets_everything_later(
    launch: Launch, bus: Bus, traces: Traces, port: int
) -> None:
    traces.refuses = True
    await record(bus, "deployer-1", [*succeeded()])
    gateway = await started(launch, port)
    await asyncio.to_thread(traces.until, lambda: traces.calls >= 2)
    text = (await gateway.get("/metrics")).text
    assert 'longshore_otlp_spans_total{result="failure"}' in text
    assert gateway.log.read_text().count("cannot push traces") == 1
    traces.refuses = False
    await asyncio.to_thread(traces.until, lambda: traces.named("deployment of web"))
    assert len(traces.named("deployment of web")) == 1


async def test_a_request_to_the_admin_api_is_a_span_within_the_trace_of_who_asked(
    launch: Launch, traces: Traces, port: int
) -> None:
    gateway = await started(launch, port)
    await gateway.get("/api/status", traceparent=f"00-{TRACE}-{PARENT}-01")
    await gateway.get("/api/containers", traceparent=f"00-{TRACE}-{PARENT}-00")
    await gateway.get("/api/no-such-thing")
    await asyncio.to_thread(traces.until, lambda: len(traces.spans) >= 2)
    (span,) = traces.named("HTTP GET /api/status")
    assert (span.trace, span.parent) == (TRACE, PARENT)
    assert span.attributes["http.response.status_code"] == "200"
    assert [span.name for span in traces.spans] == ["HTTP GET /api/status", "HTTP GET"]


async def test_without_the_signal_no_span_leaves(launch: Launch, bus: Bus, traces: Traces, port: int) -> None:
    await record(bus, "deployer-1", [*succeeded()])
    gateway = await started(launch, port, telemetry_signals="metrics")
    await gateway.get("/api/status")
    assert gateway.stop() == 0
    assert traces.calls == 0


async def test_a_real_prometheus_leads_from_the_duration_of_a_deployment_to_its_trace(
    launch: Launch, bus: Bus, tmp_path: Path
) -> None:
    now = time.time()
    await record(bus, "deployer-1", [*succeeded(at=now - 20), *failed(at=now - 40)])
    gateway = launch()
    await gateway.until("/metrics", lambda answer: "dewy_deployments_total" in answer.text)
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: longshore\n"
        f"  static_configs: [{{targets: ['{gateway.url.removeprefix('http://')}']}}]\n"
    )
    options = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    options += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    with running(["prometheus", *options], tmp_path / "prometheus.log"):
        traces = await asyncio.to_thread(_exemplars, port, now)
    assert traces == {TRACE, OTHER}


def _exemplars(port: int, now: float) -> set[str]:
    """The traces that Prometheus has for durations of deployments, once it has two."""
    found: set[str] = set()
    query = {"query": "dewy_deployment_duration_seconds_bucket", "start": str(now - 600), "end": str(now + 600)}
    deadline = time.monotonic() + 60
    while len(found) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query_exemplars", params=query).json()
            found = {one["labels"]["trace_id"] for series in answer.get("data", []) for one in series["exemplars"]}
    return found
