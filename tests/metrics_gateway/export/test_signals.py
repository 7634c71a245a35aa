"""A signal that is off is really off: nobody even connects to where it would go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from services.common.bus.connection import Bus
from services.metrics_gateway.telemetry_settings import SIGNALS
from tests.metrics_gateway.traces.story import succeeded
from tests.metrics_gateway.traces.test_push import record
from tests.metrics_gateway.traffic import serve
from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import Receiver, receiving, until
from tests.support.traces_receiver import Traces
from tests.support.traces_receiver import receiving as receiving_traces


@pytest.fixture
def unwanted() -> Iterator[socket.socket]:
    """A collector of the signal that is off. The kernel accepts for it, so that no connection is missed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def was_asked(listener: socket.socket) -> bool:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def point(monkeypatch: pytest.MonkeyPatch, signal: str, port: int) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", f"http://127.0.0.1:{port}")


def switch_off(monkeypatch: pytest.MonkeyPatch, how: str, signal: str) -> str:
    """Switch a signal off by a variable, or by the words that are returned for --telemetry-signals."""
    (other,) = set(SIGNALS) - {signal}
    if how == "signals":
        return other
    monkeypatch.setenv(f"OTEL_{signal.upper()}_EXPORTER", "none")
    return ""


async def busy(gateway: Gateway, bus: Bus) -> None:
    """Something to tell by either signal."""
    await record(bus, "deployer-1", [*succeeded()])
    await serve(bus, 0, 3)
    for _ in range(3):
        await gateway.get("/api/status")


@pytest.mark.parametrize("how", ["signals", "exporter"])
async def test_without_traces_nobody_connects_to_their_collector(
    launch: Launch, bus: Bus, unwanted: socket.socket, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    receiver = Receiver()
    with receiving(receiver) as port:
        point(monkeypatch, "metrics", port)
        point(monkeypatch, "traces", unwanted.getsockname()[1])
        gateway = launch(telemetry_signals=switch_off(monkeypatch, how, "traces"), otlp_interval=0.1)
        await gateway.until_ready()
        await busy(gateway, bus)
        calls = receiver.calls
        await until(lambda: receiver.calls > calls + 15)  # longer than the traces' interval
        assert gateway.stop() == 0
    assert not was_asked(unwanted)


@pytest.mark.parametrize("how", ["signals", "exporter"])
async def test_without_metrics_nobody_connects_to_their_collector(
    launch: Launch, bus: Bus, unwanted: socket.socket, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    traces = Traces()
    with receiving_traces(traces) as port:
        point(monkeypatch, "traces", port)
        point(monkeypatch, "metrics", unwanted.getsockname()[1])
        gateway = launch(telemetry_signals=switch_off(monkeypatch, how, "metrics"), otlp_interval=0.1)
        await gateway.until_ready()
        await busy(gateway, bus)
        await asyncio.to_thread(traces.until, lambda: traces.named("deployment of web"))
        await asyncio.to_thread(traces.until, lambda: traces.named("HTTP GET /api/status"))
        assert gateway.stop() == 0
    assert not was_asked(unwanted)


async def test_with_both_signals_both_collectors_are_asked(
    launch: Launch, unwanted: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above rely on."""
    for signal in SIGNALS:
        point(monkeypatch, signal, unwanted.getsockname()[1])
    gateway = launch(otlp_interval=0.1)
    await gateway.until_ready()
    await gateway.get("/api/status")
    await until(lambda: was_asked(unwanted))
    await until(lambda: was_asked(unwanted))
