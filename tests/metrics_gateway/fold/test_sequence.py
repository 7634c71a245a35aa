"""Batches that repeat, come late, never come, or are none."""

from __future__ import annotations

import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import HORIZON, apply
from services.metrics_gateway.fold.instance import ENDED_KEPT
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.events import KEY, Log, accepted, closed, progressed, started


def test_a_start_that_comes_late_does_not_end_the_successor() -> None:
    log = Log()
    log.say("m1", e.ListenerOpened(1.0, 80, ""), sequence=2)
    log.say("m2", started("proxy:80"))
    log.say("m1", started("proxy:80"), sequence=1)
    assert {one.id for one in log.state.running()} == {"m2"}


def test_a_repeated_batch_changes_nothing_but_its_own_count() -> None:
    log = Log()
    assert log.say("w", accepted(1), sequence=1)
    assert log.say("w", accepted(1), sequence=1) is False
    assert (log.port.connections, log.state.repeated, log.state.events) == (1, 1, 1)


def test_a_late_batch_is_applied_once_and_leaves_no_gap() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    log.say("w", accepted(3), sequence=3)
    assert log.state.missing() == 1
    assert log.say("w", accepted(2), sequence=2) is True
    assert log.say("w", accepted(2), sequence=2) is False
    assert (log.port.connections, log.state.late, log.state.repeated, log.state.missing()) == (3, 1, 1, 0)


def test_a_close_that_overtakes_its_accept_leaves_nothing_open() -> None:
    log = Log()
    log.say("w", closed(1, 500, 0), sequence=3)
    log.say("w", progressed(1, 300, 0), sequence=2)
    log.say("w", accepted(1), sequence=1)
    assert (log.active, log.port.bytes, log.port.connections) == (0, 500, 1)


def test_what_a_later_batch_said_of_a_backend_stands() -> None:
    log = Log()
    log.say("w", e.BackendLeft(1.0, 80, "a"), sequence=2)
    log.say("w", e.BackendJoined(1.0, 80, "a", ":1"), sequence=1)
    assert log.backends == set()
    log.say("w", e.BackendJoined(1.0, 80, "a", ":1"), sequence=3)
    assert log.backends == {"a"}


def test_what_is_kept_for_late_batches_is_forgotten_when_none_is_missing() -> None:
    log = Log()
    log.say("w", closed(1), e.ReplicaRetired(1.0, "d", "r", reason="replaced"), sequence=2)
    log.say("w", accepted(1), sequence=1)
    instance = log.state.instances["w"]
    assert (instance.positions, instance.missing, instance.listeners["web", 80].closed) == ({}, set(), set())
    assert log.app.replicas == {}


def test_a_gap_is_not_waited_for_for_ever_but_stays_counted() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    for sequence in range(3, HORIZON + 10):
        log.say("w", closed(sequence), sequence=sequence)
    instance = log.state.instances["w"]
    assert (log.state.missing(), instance.missing, instance.positions) == (1, set(), {})
    assert instance.listeners["web", 80].closed == set()
    assert not log.say("w", accepted(2), sequence=2)


def test_a_gap_of_millions_takes_no_more_room_than_the_horizon() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    log.say("w", accepted(2), sequence=5_000_000)
    assert len(log.state.instances["w"].missing) == HORIZON
    assert log.state.missing() == 5_000_000 - 2


def test_what_a_log_lost_by_age_before_its_first_message_is_not_called_missing() -> None:
    state = State()
    for position, sequence in ((900, 40), (901, 42)):
        apply(state, position, 1.0, codec.encode(Batch("proxy", "host", "web", "w", sequence, [accepted(sequence)])))
    assert state.missing() == 1


BEGAN = 1_800_000_000.0
"""When the logs of the next tests began, after they had lost what was before (unix seconds)."""


def born_at(seconds: float) -> str:
    """The id of an instance that began then."""
    return f"{round(seconds * 1000) >> 16:08x}-{round(seconds * 1000) & 0xFFFF:04x}-7000-8000-000000000000"


def late_log(*batches: tuple[str, int], began: float = 0.0, start: int = 900) -> State:
    """A log whose first message is not its first one any more, with batches by instance and sequence."""
    state = State()
    for position, (instance, sequence) in enumerate((("old", 40), *batches), start):
        batch = Batch("proxy", "host", "web", instance, sequence, [e.ConnectionAccepted(BEGAN, sequence, 80)])
        apply(state, position, BEGAN + position - start, codec.encode(batch), began=began)
    return state


@pytest.mark.parametrize("instance", ["w", born_at(BEGAN - 60), born_at(BEGAN + 0.5)])
def test_batches_that_come_in_another_order_count_in_a_log_that_has_lost_its_beginning(instance: str) -> None:
    state = late_log((instance, 2), (instance, 1), (instance, 3))
    assert (state.repeated, state.late, state.missing()) == (0, 1, 0)
    assert state.ports[KEY].connections == 4
    assert not state.instances[instance].missing


def test_what_an_instance_says_that_is_younger_than_the_log_cannot_have_left_it() -> None:
    state = late_log((born_at(BEGAN + 0.5), 3), (born_at(BEGAN - 0.5), 3))
    assert state.missing() == 2


def test_a_clock_that_is_ahead_makes_no_instance_younger_than_the_log() -> None:
    state, ahead = State(), 3600.0
    batch = Batch(
        "proxy", "host", "web", born_at(BEGAN - 600 + ahead), 50, [e.ConnectionAccepted(BEGAN + ahead, 1, 80)]
    )
    apply(state, 900, BEGAN, codec.encode(batch))
    assert state.missing() == 0


def test_what_left_the_log_that_another_was_imported_from_is_not_missing() -> None:
    state = late_log((born_at(BEGAN - 60), 500), (born_at(BEGAN + 0.5), 3), began=BEGAN, start=1)
    assert state.missing() == 2
    assert late_log((born_at(BEGAN - 60), 500), start=1).missing() == 39 + 499


def test_what_an_ended_instance_may_still_have_said_is_not_missing_when_it_is_forgotten() -> None:
    state = State()
    for n in range(ENDED_KEPT + 50):
        batch = Batch("proxy", "host", "_", f"m{n}", 2, [started("proxy:80")])
        apply(state, 900 + n, BEGAN + n / 1000, codec.encode(batch))
    assert len(state.instances) == ENDED_KEPT + 1
    assert state.missing() == 0


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xc1", b"\x93abc", b"[" * 5000, bytes(range(256)) * 40])
def test_a_message_that_is_no_batch_is_counted_and_harms_nothing(payload: bytes) -> None:
    state = State()
    apply(state, 5, 2.0, payload)
    assert (state.undecodable, state.position, state.time, state.events) == (1, 5, 2.0, 0)


def test_events_of_a_newer_version_are_skipped_and_counted() -> None:
    newer = codec._encoder.encode(["proxy", "host", "web", "w", 1, [[9999, 1.0, "?"], [12, 1.0, 1, 80]]])
    state = State()
    apply(state, 1, 1.0, newer)
    apply(state, 2, 1.0, newer)
    assert (state.unknown, state.ports[KEY].connections, state.repeated) == (1, 1, 1)


def test_ended_instances_are_remembered_up_to_a_limit() -> None:
    log = Log()
    for n in range(ENDED_KEPT + 50):
        log.say(f"m{n}", started("proxy:80"), sequence=2)
    assert len(log.state.instances) == ENDED_KEPT + 1
    assert log.state.missing() == ENDED_KEPT + 50
    assert next(log.state.running()).id == f"m{ENDED_KEPT + 49}"
