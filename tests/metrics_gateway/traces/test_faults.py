"""Collectors of traces that hang, talk nonsense, are none, or want to know who comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.bus.connection import Bus
from tests.metrics_gateway.export.test_otlp_faults import complaints, nonsense
from tests.metrics_gateway.export.test_otlp_tls import server
from tests.metrics_gateway.traces.story import succeeded
from tests.metrics_gateway.traces.test_push import record
from tests.support.authority import Authority
from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import scraped, until
from tests.support.ports import free_port
from tests.support.traces_receiver import Traces, receiving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways give up a push after a second."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


async def pushing(launch: Launch, bus: Bus, port: int, **options: object) -> Gateway:
    """A gateway of traces alone, with a deployment to tell."""
    await record(bus, "deployer-1", [*succeeded()])
    gateway = launch(telemetry_signals="traces", otlp_endpoint=f"localhost:{port}", **options)
    await gateway.until_ready()
    return gateway


async def until_told(gateway: Gateway) -> None:
    await until(lambda: bool(complaints(gateway)))


@pytest.mark.parametrize("mood", ["hang", "babble"])
async def test_a_collector_in_a_bad_mood_costs_one_line_and_gets_everything_later(
    launch: Launch, bus: Bus, mood: str
) -> None:
    traces = Traces()
    traces.mood = mood
    with receiving(traces) as port:
        gateway = await pushing(launch, bus, port, otlp_insecure=True)
        await until_told(gateway)
        await until(lambda: traces.calls >= 3)
        traces.recover()
        await asyncio.to_thread(traces.until, lambda: traces.named("deployment of web"))
        await until(lambda: "pushing traces works again" in gateway.log.read_text())
        assert gateway.stop() == 0
    assert gateway.log.read_text().count("cannot push traces") == 1


async def test_a_collector_that_is_none_costs_one_line_and_a_counter(launch: Launch, bus: Bus) -> None:
    async with nonsense() as port:
        gateway = await pushing(launch, bus, port, otlp_insecure=True)
        await until_told(gateway)
        assert await asyncio.to_thread(gateway.stop) == 0
    assert len(complaints(gateway)) == 1


async def test_stopping_does_not_wait_for_a_collector_that_hangs(
    launch: Launch, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
    traces = Traces()
    traces.mood = "hang"
    with receiving(traces) as port:
        gateway = await pushing(launch, bus, port, otlp_insecure=True)
        await until(lambda: traces.calls > 0)
        assert await asyncio.to_thread(gateway.stop) == 0
        traces.recover()


async def test_spans_that_could_not_be_pushed_are_counted_beside_the_metrics(launch: Launch, bus: Bus) -> None:
    await record(bus, "deployer-1", [*succeeded()])
    async with nonsense() as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=3600.0)
        failed = (("result", "failure"),)
        await gateway.until(
            "/metrics",
            lambda got: got.status_code == 200 and scraped(got.text)["longshore_otlp_spans_total"].get(failed, 0) >= 8,
        )
        assert await asyncio.to_thread(gateway.stop) == 0


async def test_traces_go_with_the_same_certificates_headers_and_compression(
    launch: Launch, bus: Bus, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.sign("gateway")
    trust = {"otlp_ca": str(authority.certificate), "otlp_cert": str(certificate), "otlp_key": str(key)}
    traces = Traces()
    with receiving(traces, server(authority, clients=True)) as port:
        nobody = await pushing(launch, bus, port, otlp_ca=str(authority.certificate))
        await until_told(nobody)
        nobody.stop()
        assert traces.calls == 0
        await pushing(launch, bus, port, **trust, otlp_header=["x-scope=a%20b"], otlp_compression="gzip")
        await asyncio.to_thread(traces.until, lambda: traces.named("deployment of web"))
    assert traces.headers["x-scope"] == "a b"
    assert traces.resource["service.name"] == "longshore"
    assert traces.resource["host.name"] == "web-1"


async def test_each_signal_has_the_reason_of_its_own_failure(launch: Launch, bus: Bus) -> None:
    await record(bus, "deployer-1", [*succeeded()])
    nowhere = f"localhost:{free_port()}"
    gateway = launch(otlp_endpoint=nowhere, otlp_insecure=True, otlp_interval=0.1)

    def lines() -> list[str]:
        return [line for line in gateway.log.read_text().splitlines() if "cannot push" in line]

    await until(lambda: len(lines()) == 2)
    assert await asyncio.to_thread(gateway.stop) == 0
    for signal in ("metrics", "traces"):
        (line,) = [line for line in lines() if f"cannot push {signal}" in line]
        assert f"Failed to export {signal}" in line
