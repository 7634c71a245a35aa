"""Spans that reach a collector: a real gateway, a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from services.common.bus import Bus
from tests.gateway.process import Gateway, Launch, publishing
from tests.gateway.traces.receiver import Traces, receiving
from tests.gateway.traces.story import TRACE, failed, succeeded

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
