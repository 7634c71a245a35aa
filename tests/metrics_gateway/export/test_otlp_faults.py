"""Receivers that are away, refuse, hang or talk nonsense cost a line and a counter."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import Receiver, receiving, scraped, until
from tests.support.ports import free_port
from tests.support.streams import listening


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways give up a push after a second."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")


async def until_failing(gateway: Gateway, count: int) -> None:
    def failed_often(text: str) -> bool:
        exports = scraped(text).get("longshore_otlp_exports_total", {})
        return exports.get((("result", "failure"),), 0) >= count

    await gateway.until("/metrics", lambda got: got.status_code == 200 and failed_often(got.text))


def complaints(gateway: Gateway) -> list[str]:
    return [line for line in gateway.log.read_text().splitlines() if "push" in line or "xport" in line]


@pytest.mark.parametrize("mood", ["refuse", "hang", "babble"])
async def test_a_receiver_in_a_bad_mood_costs_one_line_and_a_counter(launch: Launch, mood: str) -> None:
    receiver = Receiver()
    receiver.mood = getattr(receiver, mood)
    with receiving(receiver) as port:
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.1)
        await until_failing(gateway, 3)
        assert (await gateway.get("/healthz/ready")).status_code == 200
        assert await asyncio.to_thread(gateway.stop) == 0
    (line,) = complaints(gateway)
    assert "cannot push metrics" in line
    assert "reason=" in line
    assert receiver.calls >= 3


@asynccontextmanager
async def nonsense() -> AsyncIterator[int]:
    """The port of a server that answers everybody with random bytes, and then says nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(os.urandom(4096))
        with contextlib.suppress(OSError):
            await reader.read()

    async with listening(answer) as port:
        yield port


async def test_a_receiver_that_is_none_costs_one_line_and_a_counter(launch: Launch) -> None:
    async with nonsense() as port:
        gateway = launch(otlp_endpoint=f"127.0.0.1:{port}", otlp_insecure=True, otlp_interval=0.1)
        await until_failing(gateway, 2)
        assert await asyncio.to_thread(gateway.stop) == 0
    assert len(complaints(gateway)) == 1


async def test_a_receiver_that_is_away_at_first_gets_everything_when_it_is_back(launch: Launch) -> None:
    port = free_port()
    gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.1)
    await gateway.until_ready()
    await until_failing(gateway, 1)
    receiver = Receiver()
    with receiving(receiver, port=port):
        assert (await asyncio.to_thread(receiver.last)).resource_metrics
        assert await asyncio.to_thread(gateway.stop) == 0
    assert gateway.log.read_text().count("cannot push metrics") == 1
    assert gateway.log.read_text().count("works again") == 1


@pytest.mark.parametrize("mood", ["away", "hang"])
async def test_stopping_does_not_wait_for_a_receiver_that_does_not_answer(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, mood: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
    receiver = Receiver()
    receiver.mood = receiver.hang
    with receiving(receiver) as there:
        port = there if mood == "hang" else free_port()
        gateway = launch(otlp_endpoint=f"localhost:{port}", otlp_insecure=True, otlp_interval=0.1)
        await gateway.until_ready()
        if mood == "hang":
            await until(lambda: receiver.calls > 0)
        assert await asyncio.to_thread(gateway.stop) == 0
    assert "retry" not in gateway.log.read_text()
