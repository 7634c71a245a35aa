"""What the fold makes of the events of a proxy: connections, backends and listeners."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.state.port import Listener, Port
from tests.metrics_gateway.events import Log, accepted, closed, established, progressed
from tests.metrics_gateway.timeline import Timeline

REFUSED = e.ConnectionRefused(1.0, 1, 80, reason="no_backend", duration=0.75)


def observed(histogram: Histogram) -> tuple[int, float]:
    return sum(histogram.counts), histogram.nanoseconds / 1e9


def listener(log: Log) -> Listener:
    return log.state.instances["w"].listeners["web", 80]


def folded(*events: e.AnyEvent) -> Log:
    log = Log()
    log.say("w", *events)
    return log


def late(first: e.AnyEvent, second: e.AnyEvent, third: e.AnyEvent) -> Log:
    """The second of three batches comes last."""
    log = Log()
    for sequence, event in ((1, first), (3, third), (2, second)):
        log.say("w", event, sequence=sequence)
    return log


def test_a_connection_that_ends_has_a_reason_and_a_duration() -> None:
    newer = e.ConnectionClosed(
        1.0, 3, 80, backend="b", bytes_in=0, bytes_out=0, duration=0.25, reason="a reason of a newer version"
    )
    port = folded(closed(1, duration=0.5), closed(2, duration=0.25), newer).port
    assert port.closed == {**Port().closed, "eof": 2, "other": 1}
    assert observed(port.duration) == (3, 1.0)


def test_a_refusal_has_a_reason_and_is_as_long_as_the_client_was_held() -> None:
    log = folded(REFUSED)
    assert log.port.refused == {**Port().refused, "no_backend": 1}
    assert observed(log.port.duration) == observed(log.port.hold) == (1, 0.75)
    assert listener(log) == Listener()


def test_a_client_that_was_held_for_a_backend_counts_as_held_and_another_does_not() -> None:
    log = folded(established(1), e.ConnectionEstablished(1.0, 2, 80, backend="b", latency=0.5, attempts=1, held=0.25))
    assert observed(log.port.hold) == (1, 0.25)
    assert observed(log.port.latency) == observed(log.port.backends["b"].latency) == (2, 0.504)
    assert log.port.backends["b"].connections == 2


def test_a_duration_below_zero_is_none() -> None:
    port = folded(established(1, -5.0), closed(1, duration=-5.0)).port
    assert (port.latency.counts[0], port.latency.nanoseconds) == (1, 0)
    assert (port.duration.counts[0], port.duration.nanoseconds) == (1, 0)


def test_a_failed_dial_counts_for_its_backend() -> None:
    port = folded(e.DialFailed(1.0, 1, 80, backend="b", latency=2.0, reason="timeout")).port
    assert observed(port.latency) == observed(port.backends["b"].latency) == (1, 2.0)
    assert (port.backends["b"].failures["timeout"], port.backends["b"].connections) == (1, 0)


def test_an_open_connection_has_its_bytes_and_its_backend() -> None:
    log = folded(accepted(1), progressed(1, 100, 200), established(1))
    assert listener(log).open == {1: (100, 200, "b")}


def test_ejections_and_connections_that_a_drain_cut_are_counted() -> None:
    log = folded(e.BackendEjected(1.0, 80, "a", "refused"), e.BackendDrained(2.0, 80, "b", 3, 1.0))
    log.say(
        "w", e.BackendJoined(3.0, 80, "d", ":1"), e.BackendLeft(3.0, 80, "c"), e.BackendDrained(4.0, 80, "b", 2, 1.0)
    )
    assert {name: backend.ejections for name, backend in log.port.backends.items()} == {"a": 1, "b": 0, "c": 0, "d": 0}
    assert log.port.cut == 5


def test_a_backend_is_seen_when_a_connection_to_it_is_established() -> None:
    log = Timeline()
    for _ in range(2):
        log.beat(20, "g")
        log.say("w", established(1))
        assert log.port.backends["b"].seen == log.state.clock > 0


def test_a_listener_has_an_address_while_it_listens() -> None:
    log = folded(e.ListenerOpened(1.0, 80, "0.0.0.0"))
    assert listener(log).address == "0.0.0.0"
    log.say("w", e.ListenerClosed(2.0, 80))
    assert listener(log).address == ""


def test_what_a_later_batch_said_of_a_listener_stands() -> None:
    opened, shut = e.ListenerOpened(1.0, 80, "0.0.0.0"), e.ListenerClosed(2.0, 80)
    assert listener(late(opened, shut, e.ListenerOpened(3.0, 80, "::"))).address == "::"
    assert listener(late(opened, e.ListenerOpened(3.0, 80, "::"), shut)).address == ""


def test_while_a_batch_is_missing_connections_open_grow_and_answer_as_ever() -> None:
    log = folded(accepted(1))
    log.say("w", accepted(2), progressed(1, 5, 6), established(3), sequence=3)
    assert listener(log).open == {1: (5, 6, ""), 2: (0, 0, ""), 3: (0, 0, "b")}
    assert (log.active, log.port.bytes) == (3, 11)


def test_nothing_that_comes_late_opens_a_connection_again() -> None:
    for event in (accepted(1), established(1), progressed(1, 3, 4)):
        for end in (closed(1, 10, 20), REFUSED):
            log = late(accepted(2), event, end)
            assert list(listener(log).open) == [2]
            assert log.port.bytes == (30 if end is not REFUSED else 0)
