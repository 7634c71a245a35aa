"""What the fold sees of a log that was altered, and what it does not mistake for that."""

from __future__ import annotations

import msgspec

from schemas import codec
from schemas import events as e
from schemas.chain import Sealer
from services.metrics_gateway.fold.apply import HORIZON, LEAP, apply
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.events import KEY, Log, accepted, closed, progressed, started


def log(count: int) -> list[bytes]:
    """The batches of an instance, a connection accepted in each."""
    sealer = Sealer("proxy", "host", "w")
    return [sealer.seal("web", msgspec.Raw(codec.encode_events([accepted(n)]))) for n in range(count)]


def fold(payloads: list[bytes]) -> State:
    state = State()
    for position, payload in enumerate(payloads, 1):
        apply(state, position, 1.0, payload)
    return state


def altered(payload: bytes) -> bytes:
    return codec.encode(msgspec.structs.replace(codec.decode(payload).batch, events=[accepted(99)]))


def test_a_batch_that_was_altered_is_counted_and_folded_on() -> None:
    payloads = log(5)
    payloads[2] = altered(payloads[2])
    state = fold(payloads)
    assert (state.chain_breaks, state.ports[KEY].connections) == (1, 5)


def test_batches_that_repeat_come_late_or_never_are_no_break() -> None:
    payloads = log(9)
    state = fold([payloads[n] for n in (0, 2, 1, 1, 3, 6, 5, 8)])
    assert (state.chain_breaks, state.missing()) == (0, 2)


def test_a_batch_that_was_altered_and_comes_late_is_counted() -> None:
    payloads = log(5)
    state = fold([*payloads[:2], *payloads[3:], altered(payloads[2])])
    assert (state.chain_breaks, state.missing()) == (1, 0)


def test_a_chain_that_has_lost_its_beginning_takes_the_room_of_one_digest() -> None:
    state = State()
    for position, payload in enumerate(log(HORIZON + 50)[39:], 900):
        apply(state, position, 1.0, payload)
    assert (list(state.instances["w"].links), state.chain_breaks) == ([HORIZON + 51], 0)


def test_a_whole_chain_takes_the_room_of_one_digest() -> None:
    assert len(fold(log(50)).instances["w"].links) == 1


def test_the_ends_of_a_gap_that_is_given_up_are_forgotten_and_the_chain_goes_on() -> None:
    payloads = log(HORIZON + 20)
    del payloads[3]
    state = fold(payloads[:-1])
    links = state.instances["w"].links
    assert (list(links), state.missing(), state.chain_breaks) == ([HORIZON + 20], 1, 0)
    apply(state, state.position + 1, 1.0, payloads[-1])
    assert (list(state.instances["w"].links), state.chain_breaks) == ([HORIZON + 21], 0)


def test_a_chain_with_gaps_takes_no_more_room_than_the_horizon() -> None:
    payloads = log(3 * HORIZON)
    state = fold(payloads[::2])
    assert state.chain_breaks == 0
    assert len(state.instances["w"].links) <= 4 * HORIZON


def test_a_worker_that_outlives_its_master_still_says_how_its_connections_ended() -> None:
    log = Log()
    log.say("m1", started("proxy:80"))
    log.say("w", started("proxy-worker", parent="m1"), accepted(1), progressed(1, 100, 0), accepted(2))
    log.say("m2", started("proxy:80"))
    assert (log.active, log.port.bytes) == (0, 100)
    log.say("w", progressed(2, 0, 40), closed(1, 150, 0), closed(2, 0, 50), e.ServiceStopped(1.0, "its master ended"))
    assert (log.active, log.port.bytes, log.port.duration.count) == (0, 200, 2)
    assert log.state.instances["w"].listeners == {}


def test_a_batch_that_comes_after_its_gap_was_given_up_is_a_repeat_while_another_gap_is_open() -> None:
    payloads = log(HORIZON + 20)
    given_up = payloads[1]
    state = fold([payload for n, payload in enumerate(payloads) if n not in (1, 100)])
    apply(state, state.position + 1, 1.0, given_up)
    assert (state.repeated, state.chain_breaks, state.missing()) == (1, 0, 2)


def test_a_batch_that_was_given_up_is_not_the_next_one_before_a_forged_batch() -> None:
    payloads = log(HORIZON + 20)
    given_up = payloads[1]
    forged = codec.encode(codec.Batch("proxy", "host", "web", "w", 50_000, []))
    state = fold([*(payload for n, payload in enumerate(payloads) if n not in (1, 100)), forged])
    breaks = state.chain_breaks
    apply(state, state.position + 1, 1.0, given_up)
    assert (state.repeated, state.chain_breaks) == (1, breaks)


def test_a_number_that_an_instance_cannot_have_leaves_no_trace_of_the_batch() -> None:
    state = fold([codec.encode(codec.Batch("proxy", "host", "web", "w", LEAP + 1, [accepted(1)]))])
    assert (state.misfits, state.instances, state.services) == (1, {}, {})
    state = fold([codec.encode(codec.Batch("proxy", "host", "web", "w", LEAP, [accepted(1)]))])
    assert (state.misfits, list(state.instances), list(state.services)) == (0, ["w"], ["proxy"])
