"""Deployments and commands as spans, folded from events."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.span import Span
from services.metrics_gateway.state.state import State
from services.metrics_gateway.state.tracing import MAX_OPEN, MAX_SPANS
from tests.metrics_gateway.recording import LOG, read
from tests.metrics_gateway.traces.story import OTHER, TRACE, failed, succeeded


def fold(*batches: list[e.AnyEvent], order: list[int] | None = None) -> State:
    """The state after batches of one deployer, which may come in another order."""
    state = State()
    for position, number in enumerate(order or range(len(batches)), 1):
        payload = codec.encode(Batch("deployer", "here", "web", "deployer-1", number + 1, batches[number]))
        apply(state, position, 1.0, payload)
    return state


def told(state: State) -> list[Span]:
    """The spans, wherever in the log they ended."""
    return [msgspec.structs.replace(span, position=0) for span in state.tracing.finished]


def by_name(state: State) -> dict[str, Span]:
    return {span.name: span for span in state.tracing.finished}


def test_a_deployment_is_one_trace_with_a_span_for_each_step() -> None:
    spans = by_name(fold(succeeded()))
    root = spans["deployment of web"]
    assert list(spans) == ["deployment of web", "resolve", "pull", "start", "check", "route", "drain", "stop"]
    assert {span.trace for span in spans.values()} == {TRACE}
    assert {span.parent for name, span in spans.items() if span is not root} == {root.id}
    assert (root.start, root.end, root.error, root.parent) == (999.5, 1009.0, "", "")
    assert (spans["resolve"].start, spans["resolve"].end) == (999.5, 1000.0)
    assert (spans["start"].start, spans["start"].end) == (1002.25, 1003.0)
    assert (spans["drain"].start, spans["drain"].end) == (1006.0, 1008.0)
    assert root.attributes["longshore.release"] == "2.0.0"
    assert root.attributes["longshore.by"] == "alice"
    assert spans["stop"].attributes["longshore.reason"] == "replaced"
    assert len({span.id for span in spans.values()}) == len(spans)


def test_a_failed_deployment_says_in_which_phase_and_why_and_shows_the_rollback() -> None:
    state = fold(succeeded(), failed())
    spans = {span.name: span for span in state.tracing.finished if span.trace == OTHER}
    assert spans["deployment of web"].error == "check: answers 500"
    assert spans["check"].error == "answers 500"
    assert (spans["check"].start, spans["check"].end) == (2002.0, 2030.0)
    assert (spans["rollback"].start, spans["rollback"].end) == (2030.0, 2031.0)
    assert spans["deployment of web"].end == 2031.0


def test_a_deployment_is_linked_to_the_one_before() -> None:
    spans = [span for span in fold(succeeded(), failed()).tracing.finished if span.name == "deployment of web"]
    assert spans[0].links == []
    assert spans[1].links == [(TRACE, spans[0].id)]


def test_what_was_asked_for_is_a_part_of_the_trace_of_who_asked() -> None:
    answered = e.CommandAnswered(
        1000.25,
        command="deploy",
        by="alice",
        ok=True,
        message="is being deployed",
        duration=0.25,
        deployment="d1",
        trace=TRACE,
        span="2" * 16,
        parent="1" * 16,
        caller="cli",
        caller_parent="",
        sent=999.0,
    )
    spans = by_name(fold([answered, *succeeded(parent="2" * 16)]))
    line, command, root = spans["longshore deploy"], spans["command deploy"], spans["deployment of web"]
    assert (line.id, line.parent, line.kind, line.start, line.end) == ("1" * 16, "", "client", 999.0, 1000.25)
    assert (command.id, command.parent, command.kind, command.start) == ("2" * 16, line.id, "server", 1000.0)
    assert root.parent == command.id
    assert {span.trace for span in spans.values()} == {TRACE}


def test_what_was_refused_is_an_error() -> None:
    refused = e.CommandAnswered(
        1.0,
        command="retry",
        by="bob",
        ok=False,
        message="nothing to retry",
        duration=0.1,
        deployment="",
        trace=TRACE,
        span="2" * 16,
    )
    (span,) = fold([refused]).tracing.finished
    assert (span.name, span.error, span.parent) == ("command retry", "nothing to retry", "")


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 4))))
def test_batches_that_come_late_give_the_same_spans(order: tuple[int, ...]) -> None:
    events = succeeded()
    batches = [events[:1], events[1:4], events[4:6], events[6:], failed()]
    state = fold(*batches, order=[0, *order, 4])
    assert sorted(told(state), key=lambda span: (span.trace, span.id)) == sorted(
        told(fold(*batches)), key=lambda span: (span.trace, span.id)
    )


def test_a_gateway_that_starts_again_in_the_middle_of_a_deployment_tells_the_same() -> None:
    events = succeeded()
    for split in range(1, len(events)):
        state = fold(events[:split])
        saved = snapshot.restore(snapshot.decode(snapshot.encode(state, "stream"), "stream", state.position))
        payload = codec.encode(Batch("deployer", "here", "web", "deployer-1", 2, events[split:]))
        apply(saved, 2, 1.0, payload)
        assert told(saved) == told(fold(events))
        assert {span.position for span in saved.tracing.finished} == {2}


def test_a_replay_gives_the_same_spans_with_the_same_ids() -> None:
    first, second = State(), State()
    for state in (first, second):
        for position, payload in enumerate(read(LOG), 1):
            apply(state, position, 1.0, payload)
    assert first.tracing.finished
    assert first.tracing == second.tracing


def test_deployments_that_never_end_and_spans_that_nobody_takes_are_bounded() -> None:
    unfinished = [succeeded(f"d{number}")[0] for number in range(MAX_OPEN + 20)]
    assert len(fold(unfinished).tracing.open) == MAX_OPEN
    many = fold(*(succeeded(f"d{number}", f"{number + 1:032x}") for number in range(MAX_SPANS // 8 + 5)))
    assert len(many.tracing.finished) == MAX_SPANS
    assert many.tracing.dropped == 5 * 8


def test_a_sampled_connection_is_a_trace_and_an_exemplar() -> None:
    event = e.ConnectionTraced(
        100.0,
        7,
        8080,
        backend="web-1-a",
        duration=10.0,
        held=0.5,
        latency=0.25,
        attempts=2,
        established=1.0,
        first_byte=1.5,
        bytes_in=100,
        bytes_out=2000,
        reason="eof",
    )
    state = fold([event])
    spans = by_name(state)
    assert {name: (span.start, span.end) for name, span in spans.items()} == {
        "connection to web": (90.0, 100.0),
        "hold": (90.25, 90.75),
        "dial": (90.75, 91.0),
        "first byte": (91.0, 91.5),
        "transfer": (91.5, 100.0),
    }
    root = spans["connection to web"]
    assert {span.parent for span in spans.values()} == {"", root.id}
    assert root.attributes["longshore.backend"] == "web-1-a"
    totals = state.ports["here", "web", 8080]
    assert [one.trace for one in totals.duration.exemplars.values()] == [root.trace]
    assert [(one.trace, one.span) for one in totals.latency.exemplars.values()] == [(root.trace, spans["dial"].id)]
    other = fold([event], [msgspec.structs.replace(event, connection=8)])
    assert len({span.trace for span in other.tracing.finished}) == 2


def test_a_connection_that_was_not_held_and_sent_nothing_has_no_such_spans() -> None:
    event = e.ConnectionTraced(
        100.0,
        7,
        8080,
        backend="web-1-a",
        duration=10.0,
        held=0.0,
        latency=0.25,
        attempts=1,
        established=1.0,
        first_byte=-1.0,
        bytes_in=100,
        bytes_out=0,
        reason="client_reset",
    )
    assert list(by_name(fold([event]))) == ["connection to web", "dial"]


@pytest.mark.parametrize(
    ("reason", "held", "error", "steps"),
    [
        ("no_backend", 10.0, "no backend was there within the hold time", ["hold"]),
        ("dial_failed", 0.0, "no backend could be reached within the hold time", []),
        ("client_gone", 2.5, "", ["hold"]),
    ],
)
def test_a_connection_without_a_backend_has_its_reason_and_no_dial(
    reason: str, held: float, error: str, steps: list[str]
) -> None:
    event = e.ConnectionTraced(
        100.0,
        7,
        8080,
        backend="",
        duration=10.0,
        held=held,
        latency=0.0,
        attempts=3,
        established=-1.0,
        first_byte=-1.0,
        bytes_in=0,
        bytes_out=0,
        reason=reason,
    )
    state = fold([event])
    root, *others = state.tracing.finished
    assert (root.error, root.start, root.end, root.attributes["longshore.reason"]) == (error, 90.0, 100.0, reason)
    assert root.attributes["longshore.attempts"] == 3
    assert [(one.name, one.start, one.end) for one in others] == [(name, 100.0 - held, 100.0) for name in steps]
    totals = state.ports["here", "web", 8080]
    assert [one.trace for one in totals.duration.exemplars.values()] == [root.trace]
    assert totals.latency.exemplars == {}
