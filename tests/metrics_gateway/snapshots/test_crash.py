"""A gateway that dies at any step of reading, applying and saving shows what one shows that never died."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec, subjects
from schemas import events as e
from schemas.chain import Sealer
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import describe, last_sequence, read
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.recording import LOG, START, STREAM, subject
from tests.metrics_gateway.recording import read as recorded
from tests.metrics_gateway.snapshots.test_saver import Gateway, running, until
from tests.support.faults import Faults

LAST = 10**6


async def publish(bus: Bus) -> None:
    """A log with repeats, messages that come late, and one that is no batch."""
    sealer = Sealer("proxy", "host", "w")
    payloads = [
        sealer.seal("web", msgspec.Raw(codec.encode_events([e.ConnectionAccepted(1.0, n, 80), _closed(n)])))
        for n in range(12)
    ]
    order = [0, 1, 1, 4, 3, 2, 5, 7, 6, 0, 8, 9, 11, 10]
    for payload in [*(payloads[n] for n in order), b"\xc1"]:
        await bus.jetstream.publish(subject(payload), payload)


def _closed(number: int) -> e.ConnectionClosed:
    return e.ConnectionClosed(1.0, number, 80, backend="b", bytes_in=10, bytes_out=number, duration=0.1, reason="eof")


async def refolded(bus: Bus) -> State:
    state = State()
    async for entries in read(bus, wait=False):
        for entry in entries:
            apply(state, entry.sequence, entry.time, entry.payload)
    return state


async def live_and_die(bus: Bus, faults: Faults, end: int) -> Gateway:
    """One life of a gateway: to the end of the log, unless it dies before."""
    gateway = Gateway(bus, events=4)
    with pytest.MonkeyPatch.context() as patch:
        faults.watch(patch, gateway.live, "fold")
        faults.watch(patch, gateway.saver, "folded")
        faults.watch(patch, gateway.store, "load")
        faults.watch(patch, gateway.store, "save")
        faults.watch(patch, snapshot, "encode")
        faults.watch(patch, bus.jetstream, "publish")
        faults.watch(patch, bus.jetstream, "purge_stream")
        async with running(gateway):
            await until(lambda: faults.is_dead or gateway.live.state.position == end)
            if not faults.is_dead:
                gateway.saver.close()
                await until(lambda: faults.is_dead or gateway.saver._position == end)
    return gateway


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
async def test_wherever_a_gateway_dies_the_next_shows_the_same_numbers(bus: Bus, is_done: bool) -> None:
    await publish(bus)
    end, expected = await last_sequence(bus), await refolded(bus)
    expected.log = (await describe(bus)).created
    crashes = 0
    for at in range(1, 200):
        await bus.jetstream.purge_stream(f"OBJ_{subjects.SNAPSHOTS}")
        faults = Faults(at, is_done)
        await live_and_die(bus, faults, end)
        if not faults.is_dead:
            break
        crashes += 1
        await live_and_die(bus, Faults(at // 2 + 1, not is_done), end)
        survivor = await live_and_die(bus, Faults(LAST, False), end)
        assert survivor.live.state == expected
    assert crashes > 20


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=12),
)
def test_random_saves_and_crashes_of_a_log_with_repeats_and_reorderings_change_nothing(
    seed: int, moments: list[tuple[float, bool]]
) -> None:
    """At each moment the state is saved, or the process dies and goes on with what was saved last."""
    messages = disturbed(seed)
    expected = folded(State(), messages, len(messages))
    saved = snapshot.encode(State(), STREAM)
    state = State()
    for share, is_crash in moments:
        if is_crash:
            state = snapshot.restore(snapshot.decode(saved, STREAM, LAST))
            continue
        state = folded(state, messages, max(state.position, int(share * len(messages))))
        saved = snapshot.encode(state, STREAM)
    assert folded(state, messages, len(messages)) == expected


def disturbed(seed: int) -> list[bytes]:
    """The recorded log with messages repeated, lost and moved."""
    chance = random.Random(seed)
    messages = [payload for payload in recorded(LOG) for _ in range(chance.choices((0, 1, 2), (2, 90, 8))[0])]
    places = {index: index + chance.uniform(0, 30) for index in range(len(messages))}
    return [messages[index] for index in sorted(places, key=places.__getitem__)]


def folded(state: State, messages: list[bytes], until_position: int) -> State:
    for position in range(state.position + 1, until_position + 1):
        apply(state, position, START + position / 10, messages[position - 1])
    return state
