"""A clock that jumps, on the bus's host or on a service's, both ways: no count changes."""

from __future__ import annotations

import random
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas import events as e
from services.common.bus.connection import Bus
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.recording import LOG, START, exposition, folded, read
from tests.metrics_gateway.snapshots.test_saver import Gateway, publish, running

DAY = 86400.0
MESSAGES = list(read(LOG))
COUNTS = (
    "dewy_proxy_connections_total",
    "dewy_proxy_connections_active",
    "dewy_proxy_bytes_transferred_total",
    "dewy_proxy_connection_duration_seconds",
    "dewy_deployments_total",
    "dewy_healthchecks",
    "dewy_container_replicas",
    "longshore_gateway_events",
    "longshore_gateway_batches",
)


def counts(state: State) -> list[str]:
    return [line for line in exposition(state).splitlines() if line.startswith(COUNTS)]


def jumping(payload: bytes, jump: float) -> bytes:
    """A batch whose events say another time."""
    try:
        batch = codec.decode(payload).batch
    except msgspec.MsgspecError:
        return payload
    if codec.decode(payload).unknown or codec.decode(payload).malformed:
        return payload
    events = [msgspec.structs.replace(event, time=event.time + jump) for event in batch.events]
    return codec.encode(msgspec.structs.replace(batch, events=events))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.booleans())
def test_a_clock_that_jumps_a_day_now_and_then_changes_no_count(seed: int, is_bus: bool) -> None:
    chance = random.Random(seed)
    state, jump = State(), 0.0
    for position, payload in enumerate(MESSAGES, 1):
        jump = chance.choice((-DAY, 0.0, DAY)) if chance.random() < 0.1 else jump
        moved = payload if is_bus else jumping(payload, jump)
        apply(state, position, START + position / 10 + (jump if is_bus else 0.0), moved)
    assert counts(state) == counts(folded(MESSAGES))


@pytest.mark.parametrize("jump", [-DAY, DAY])
async def test_a_gateway_whose_clock_jumps_shows_no_negative_age_and_saves_on(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    async with running(Gateway(bus, interval=0.05)) as gateway:
        await publish(bus, "p-1", 3)
        await gateway.until_folded(3)
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        await publish(bus, "p-2", 3)
        await gateway.until_folded(6)
        await gateway.saver.save()
        moment = gateway.live.measurement()
        assert moment.now - real() == pytest.approx(jump, abs=60)
        text = Exporter(gateway.live.measurement, {}).expose("", "").body.decode()
        ages = [line for line in text.splitlines() if "_age_seconds " in line and line[0] != "#"]
        assert ages
        assert all(float(line.split()[1]) >= 0 for line in ages)
        assert gateway.live.age >= 0
    again = Gateway(bus)
    await again.saver.restore()
    assert again.connections == 6


def test_times_of_another_age_are_harmless() -> None:
    state = State()
    for number, moment in enumerate((9.9e9, -9.9e9, -1.0, 0.0), 1):
        events: list[e.AnyEvent] = [
            e.ServiceStarted(moment, "proxy:80", "1", 1),
            e.ServiceHeartbeat(moment, rss=1, cpu=1.0, loop_lag=1.0),
        ]
        apply(state, number, 1.0, codec.encode(codec.Batch("proxy", "h", "_", f"i{number}", 1, events)))
    exposition(state)
    assert len(list(state.running())) == 1


def test_durations_by_a_clock_that_was_set_back_count_as_none_and_take_nothing_from_a_sum() -> None:
    state = State()
    events: list[e.AnyEvent] = [
        e.DeploymentSucceeded(1.0, "a", "1.0.0", 5.0),
        e.DeploymentSucceeded(2.0, "b", "1.1.0", -DAY),
        e.DeploymentFailed(3.0, "c", "1.2.0", phase="check", reason="why", duration=-DAY),
        e.ConnectionEstablished(1.0, 1, 8080, backend="r", latency=-DAY, attempts=1),
        e.ConnectionClosed(1.0, 1, 8080, backend="r", bytes_in=1, bytes_out=2, duration=-DAY, reason="eof"),
    ]
    apply(state, 1, 1.0, codec.encode(codec.Batch("deployer", "h", "shop", "d", 1, events)))
    shown = dict(line.split(" ") for line in exposition(state).splitlines() if line[0] != "#" and " " in line)
    sums = {name: float(value) for name, value in shown.items() if "_sum" in name or "_total" in name}
    assert all(value >= 0 for value in sums.values())
    (deployments,) = state.apps.values()
    assert (deployments.deployments, deployments.deployment_duration.count) == (2, 3)
    assert deployments.deployment_duration.sum == 5.0
