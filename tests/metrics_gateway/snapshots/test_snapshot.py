"""A state saved, loaded and folded on is the state that was never saved."""

from __future__ import annotations

import random
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import events as e
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots.snapshot import (
    LARGEST_SUM,
    VERSION,
    Snapshot,
    SnapshotError,
    copied,
    decode,
    encode,
    restore,
)
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.events import Log, accepted, closed, established, progressed, started
from tests.metrics_gateway.recording import LOG, SNAPSHOT, START, STREAM, folded, read

LAST = 10**6


def saved_and_loaded(state: State) -> State:
    return restore(decode(encode(state, STREAM), STREAM, LAST))


@cache
def shuffled(seed: int) -> list[bytes]:
    """The recorded log, its messages moved by up to 20 places, some of them lost or repeated."""
    chance = random.Random(seed)
    messages = [payload for payload in read(LOG) for _ in range(chance.choices((0, 1, 2), (3, 90, 7))[0])]
    places = {index: index + chance.uniform(0, 20) for index in range(len(messages))}
    return [messages[index] for index in sorted(places, key=places.__getitem__)]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 5), crashes=st.lists(st.floats(0, 1), max_size=6))
def test_the_fold_goes_on_from_a_snapshot_as_if_it_had_never_stopped(seed: int, crashes: list[float]) -> None:
    messages = shuffled(seed)
    restarts = {int(share * len(messages)) for share in crashes}
    state = State()
    for position, payload in enumerate(messages, 1):
        if position in restarts:
            state = saved_and_loaded(state)
        apply(state, position, START + position / 10, payload)
    assert saved_and_loaded(state) == state == folded(messages)


def test_what_is_kept_for_batches_that_are_missing_is_saved() -> None:
    log = Log()
    log.say("m", started("proxy:80"))
    log.say("w", started("proxy-worker", parent="m"), accepted(1), progressed(1, 5, 6))
    log.say("w", e.BackendLeft(1.0, 80, "a"), closed(7), sequence=9)
    log.state = saved_and_loaded(log.state)
    log.say("w", e.BackendJoined(1.0, 80, "a", ":1"), accepted(7), sequence=5)
    assert not log.say("w", accepted(8), sequence=5)
    assert (log.backends, log.active, log.state.missing()) == (set(), 1, 6)
    log.say("m", e.ServiceStopped(1.0, "killed"))
    assert log.active == 0


def test_sums_beyond_64_bits_are_saved() -> None:
    log = Log()
    log.say("w", *(established(n, 9e9) for n in range(3)), closed(1), established(9))
    log.say("x", e.EventsDropped(1.0, 2**53), started("proxy:80"))
    log.port.bytes_in = log.port.bytes_out = log.state.dropped["host", "proxy"] = 2**64
    assert log.port.latency.nanoseconds > 2**64
    assert saved_and_loaded(log.state) == log.state


@pytest.mark.parametrize("nanoseconds", [10**400, -(10**40), 2**128, int(LARGEST_SUM), -int(LARGEST_SUM)])
def test_a_sum_that_no_log_gives_is_no_state(nanoseconds: int) -> None:
    log = Log()
    log.say("w", established(1))
    log.port.latency.nanoseconds = nanoseconds
    with pytest.raises(SnapshotError, match="no log gives"):
        saved_and_loaded(log.state)


def test_counts_beyond_64_bits_are_saved_wherever_they_stand() -> None:
    log = Log()
    log.say("w", accepted(1), closed(1))
    log.port.duration.counts[3] = 1 << 70
    assert saved_and_loaded(log.state) == log.state


def test_a_copy_of_a_state_is_the_same_and_its_own() -> None:
    log = Log()
    log.say("w", accepted(1))
    copy = copied(log.state)
    assert copy == log.state
    log.say("w", closed(1))
    assert copy != log.state


def test_text_that_looks_like_something_else_stays_text() -> None:
    log = Log()
    for reason in ("null", "12", "true", ""):
        log.say(f"m{reason}", started("unit"), e.ServiceStopped(1.0, reason))
    assert saved_and_loaded(log.state) == log.state


def test_a_snapshot_of_the_released_version_still_gives_what_the_log_gives() -> None:
    hint = "raise VERSION in snapshot.py, then run: python -m tests.metrics_gateway.recording"
    assert restore(decode(SNAPSHOT.read_bytes(), STREAM, LAST)) == folded(list(read(LOG))), hint


def test_a_snapshot_of_another_version_is_refused() -> None:
    newer = msgspec.msgpack.encode([VERSION + 1, {"a": "new layout"}])
    whole = msgspec.msgpack.encode(Snapshot(VERSION + 1, STREAM, 3, msgspec.Raw(b"\xc0")))
    for data in (newer, whole):
        with pytest.raises(SnapshotError, match=f"version {VERSION + 1}, and this program reads version {VERSION}"):
            decode(data, STREAM, LAST)


@pytest.mark.parametrize(
    ("stream", "last", "position"), [(STREAM, 8, 8), (STREAM, 99, 8), (STREAM, 7, 7), ("2026-02-02", 99, 0)]
)
def test_a_state_goes_on_where_the_stream_does(stream: str, last: int, position: int) -> None:
    data = encode(State(position=8, events=30), STREAM)
    assert restore(decode(data, stream, last)) == State(position=position, events=30)


@settings(deadline=None)
@given(st.binary(max_size=300) | st.integers(0, 2000).map(lambda cut: SNAPSHOT.read_bytes()[:cut]))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        restore(decode(data, STREAM, LAST))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_a_state_that_is_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(SnapshotError):
        restore(Snapshot(VERSION, STREAM, 1, msgspec.Raw(rubbish + b"\xc1")))


def test_the_connections_of_a_backend_are_counted_again_from_those_that_are_open() -> None:
    log = Log()
    log.say("w", accepted(1), established(1))
    listener = log.state.instances["w"].listeners["web", 80]
    listener.carried = {"b": 7, "gone": 3}
    assert saved_and_loaded(log.state).instances["w"].listeners["web", 80].carried == {"b": 1}
