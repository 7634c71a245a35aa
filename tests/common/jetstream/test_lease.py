"""A lease on a real bus: one holds it at most, and another takes it when the holder is gone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream import lease as module
from services.common.jetstream.lease import TERM, Lease
from services.common.jetstream.provisioning import ensure_streams
from tests.support.nats_server import NatsServer
from tests.support.patience import patience

NAMES = ("a", "b", "c")
STEP = st.one_of(
    st.sampled_from(NAMES),  # this one does what is due
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["dies", "gives back"])),  # and another one comes in its place
    st.floats(0.0, 2 * TERM),  # so much time passes
)
_keys = itertools.count()


class Clock:
    """Time that passes when a test says so, and a little whenever somebody looks at it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.drift = 0.0

    def __call__(self) -> float:
        self.now += self.drift
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "clock", made)
    return made


def leases(bus: Bus) -> dict[str, Lease]:
    key = f"test.{next(_keys)}"
    return {name: Lease(bus, key, name, "host") for name in NAMES}


async def test_the_first_has_it_and_keeps_it(bus: Bus, clock: Clock) -> None:
    a, b, _ = leases(bus).values()
    for _ in range(5):
        await a.round()
        await b.round()
        clock.now += TERM - 0.5
        assert (a.is_held, b.is_held) == (True, False)
    assert (a.acquisitions, b.acquisitions) == (1, 0)


async def test_another_takes_it_once_it_was_not_renewed_for_the_term(bus: Bus, clock: Clock) -> None:
    a, b, _ = leases(bus).values()
    await a.round()
    await b.round()
    clock.now += TERM - 0.1
    await b.round()
    assert (a.is_held, b.is_held) == (True, False)
    clock.now += 0.1
    assert not a.is_held  # also when it was stopped, or slept, in the meantime
    await b.round()
    assert b.is_held
    await a.round()
    assert not a.is_held


async def test_one_that_is_given_back_is_free_at_once_and_not_taken_again_by_who_gave_it(
    bus: Bus, clock: Clock
) -> None:
    a, b, _ = leases(bus).values()
    await a.round()
    await b.round()
    await a.release()
    await a.round()
    await b.round()
    assert (a.is_held, b.is_held) == (False, True)


async def test_one_that_lapsed_and_was_nobody_elses_is_the_same_turn(bus: Bus, clock: Clock) -> None:
    a, b, _ = leases(bus).values()
    await a.round()
    clock.now += 10 * TERM
    assert not a.is_held
    await a.round()
    assert (a.is_held, a.acquisitions) == (True, 1)
    clock.now += 10 * TERM
    await b.round()
    clock.now += TERM
    await b.round()
    await a.round()
    assert (a.is_held, b.is_held) == (False, True)
    clock.now += TERM
    await a.round()
    assert (a.is_held, a.acquisitions) == (True, 2)


async def test_what_the_holder_says_is_done_is_known_to_the_next(bus: Bus, clock: Clock) -> None:
    a, b, _ = leases(bus).values()
    a.processed = 41
    await a.round()
    await b.round()
    assert b.processed == 41
    a.processed = 42
    await a.release()
    await b.round()
    assert (b.is_held, b.processed) == (True, 42)


async def test_rubbish_in_its_place_is_waited_out(bus: Bus, clock: Clock) -> None:
    a, *_ = leases(bus).values()
    kv = await bus.jetstream.key_value(subjects.LEASES)
    await kv.put(a.key, b"\xff rubbish")
    await a.round()
    assert not a.is_held
    clock.now += TERM
    await a.round()
    assert a.is_held


async def test_rubbish_that_replaces_it_is_nobody_who_took_it_over(bus: Bus, clock: Clock) -> None:
    a, *_ = leases(bus).values()
    await a.round()
    kv = await bus.jetstream.key_value(subjects.LEASES)
    await kv.put(a.key, b"\xff rubbish")
    await a.round()
    assert (a.is_held, a.is_superseded) == (False, False)
    await kv.delete(a.key)
    await a.round()
    assert (a.is_held, a.is_superseded) == (True, False)


async def test_a_bus_that_went_away_ends_it_with_the_term_and_it_is_held_again_afterwards(
    bus: Bus, nats_server: NatsServer
) -> None:
    lease = Lease(bus, "test.away", "a", "host", 0.5)
    running = asyncio.create_task(lease.run())
    async with asyncio.timeout(patience(60)):
        await until_held(lease, True)
        nats_server.kill()
        await until_held(lease, False)
        nats_server.start()
        await until_held(lease, True)
        await lease.release()
        await running


async def until_held(lease: Lease, held: bool) -> None:
    while lease.is_held != held:  # noqa: ASYNC110 - a condition without an event
        await asyncio.sleep(0.02)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=30), st.floats(0.0, 0.5))
def test_two_never_hold_it_at_once_whatever_happens_in_whatever_order(
    nats_server: NatsServer, clock: Clock, steps: list[object], drift: float
) -> None:
    clock.drift = drift
    asyncio.run(play(nats_server.url, clock, steps))


async def play(url: str, clock: Clock, steps: list[object]) -> None:
    async with connected(url) as bus:
        found = leases(bus)
        for number, step in enumerate(steps):
            if isinstance(step, float):
                clock.now += step
            elif isinstance(step, str):
                await found[step].round()
            elif isinstance(step, tuple):
                name, end = step
                if end == "gives back":
                    await found[name].release()
                held = found[name].is_held
                if not held:  # what is dead cannot act on it any more
                    found[name] = Lease(bus, found[name].key, f"{name}{number}", "host")
            now = clock.now
            assert sum(now < lease._until for lease in found.values()) <= 1


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Bus]:
    bus = await Bus.connect("gateway", Credentials([url]))
    try:
        await ensure_streams(bus)
        yield bus
    finally:
        await bus.close()
