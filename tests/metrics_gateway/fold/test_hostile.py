"""What a damaged or hostile program may write to the log: it is counted, and takes nothing else with it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import chain, codec, subjects
from schemas import events as e
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event
from schemas.limits import bare
from schemas.reference import tag_of
from services.metrics_gateway.fold.apply import HORIZON, LEAP, apply
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.state import State
from services.metrics_gateway.views.deployments import deployments
from services.metrics_gateway.views.events import Wanted, newest
from services.metrics_gateway.views.status import LogStatus, containers, status
from tests.metrics_gateway.events import KEY, accepted, closed, established, started
from tests.metrics_gateway.recording import STREAM, exposition
from tests.metrics_gateway.timeline import Timeline
from tests.schemas.strategies import WILD

SUBJECT = subjects.events("proxy", "web")
MAPS = st.dictionaries(WILD[str], WILD[int], max_size=3)


def wild(kind: type[Event]) -> st.SearchStrategy[list[Any]]:
    """An event as it travels, with any value of a field's type in its place, or an honest one."""
    types = bare(kind)
    fields = [WILD.get(types[name], MAPS) for name in kind.__struct_fields__]
    return st.tuples(st.just(tag_of(kind)), *fields).map(list)


anything = st.one_of([wild(kind) for kind in EVENT_TYPES])
envelopes = st.tuples(
    st.sampled_from(["proxy", "deployer", ""]) | WILD[str],
    st.just("host") | WILD[str],
    st.just("web") | WILD[str],
    st.sampled_from(["a", "b", ""]) | WILD[str],
    st.integers(1, 9) | WILD[int],
).map(list)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(envelopes, st.lists(anything, max_size=6)), max_size=8))
def test_whatever_is_written_the_metrics_and_the_answers_are_given_and_the_snapshot_loads(
    batches: list[tuple[list[Any], list[list[Any]]]],
) -> None:
    state = State()
    for position, (envelope, events) in enumerate(batches, 1):
        apply(state, position, 1.0 + 40 * position, msgspec.msgpack.encode([*envelope, events]))
    assert all(line.isprintable() or line[0] == "#" or "{" in line for line in exposition(state).split("\n") if line)
    exposition(state, "application/openmetrics-text; version=1.0.0")
    for answer in (
        status(state, LogStatus(1, 0, True, 0.0, True), "1"),
        containers(state),
        deployments(state, "", 100),
        newest(state, Wanted(), 100),
    ):
        msgspec.json.encode(answer)
    saved = snapshot.encode(state, STREAM)
    assert snapshot.restore(snapshot.decode(saved, STREAM, state.position)) == state


@pytest.mark.parametrize(
    "event",
    [
        closed(2, duration=1.7e299),
        closed(2, duration=1e15),
        closed(2, duration=float("nan")),
        closed(2, bytes_in=-1),
        closed(2, bytes_out=2**63),
        established(2, latency=float("inf")),
        e.ConnectionAccepted(1.0, 2, 70000),
        e.ConnectionAccepted(1e300, 2, 80),
        e.ConnectionRefused(1.0, 2, 0, reason="no_backend", duration=0.1),
        e.EventsDropped(1.0, -5),
        e.BackendJoined(1.0, 80, "x" * 2000, ":1"),
    ],
    ids=str,
)
def test_an_event_with_an_impossible_value_is_counted_and_the_others_of_its_batch_count(event: Any) -> None:
    state = State()
    apply(state, 1, 1.0, codec.encode(Batch("proxy", "host", "web", "w", 1, [accepted(1), event, closed(1)])), SUBJECT)
    apply(state, 2, 2.0, codec.encode(Batch("proxy", "host", "web", "w", 2, [event])), SUBJECT)
    assert (state.malformed, state.events, state.undecodable) == (2, 2, 0)
    assert (state.ports[KEY].duration.sum, state.ports[KEY].bytes) == (0.5, 30)
    assert "longshore_gateway_events_unknown_total 2.0" in exposition(state)


@pytest.mark.parametrize(
    ("service", "app", "subject"),
    [
        ("deployer", "web", SUBJECT),
        ("proxy", "shop", SUBJECT),
        ("proxy", "web", "longshore.events.proxy"),
        ("proxy", "web", "longshore.events.proxy.web.elsewhere"),
        ("proxy", "web", "longshore.events.proxy.web.host.more"),
        ("proxy.web", "x", "longshore.events.proxy.web"),
    ],
)
def test_a_batch_that_does_not_fit_its_subject_is_counted_and_changes_nothing(
    service: str, app: str, subject: str
) -> None:
    state = State()
    payload = codec.encode(Batch(service, "host", app, "w", 1, [accepted(1)]))
    apply(state, 1, 1.0, payload, subject)
    assert (state.misfits, state.events, state.undecodable) == (1, 0, 0)
    assert not any((state.instances, state.ports, state.apps, state.services))
    assert "longshore_gateway_batches_malformed_total 1.0" in exposition(state)


@pytest.mark.parametrize(("service", "host"), [("health", "host"), ("deployer", "elsewhere")])
def test_a_batch_in_the_name_of_another_service_s_instance_is_counted_and_changes_nothing(
    service: str, host: str
) -> None:
    log = Timeline()
    log.say("d", started("deployer:web"), app="_", service="deployer")
    stop = Batch(service, host, "_", "d", 2, [e.ServiceStopped(1.0, "stopped")])
    apply(log.state, 2, log.now, codec.encode(stop), subjects.events(service))
    assert log.live == {"d"}
    assert (log.state.misfits, log.state.instances["d"].last) == (1, 1)
    log.say("d", e.ScaleSet(1.0, 3))
    assert (log.app.desired, log.state.repeated) == (3, 0)


def chained(instance: str, batches: int) -> list[bytes]:
    """The batches of an honest instance, each with one accepted connection."""
    sealer = chain.Sealer("proxy", "host", instance)
    return [sealer.seal("web", msgspec.Raw(codec.encode_events([accepted(n)]))) for n in range(1, batches + 1)]


@pytest.mark.parametrize("sequence", [2**62, 2**64 - 1, 2**53, LEAP + 6])
def test_a_number_that_no_instance_reaches_is_counted_and_changes_nothing(sequence: int) -> None:
    state = State()
    honest = chained("w", 9)
    forged = msgspec.msgpack.encode(["proxy", "host", "web", "w", sequence, [], b""])
    for position, payload in enumerate([*honest[:5], forged, *honest[5:]], 1):
        apply(state, position, 1.0, payload, SUBJECT)
    assert (state.ports[KEY].connections, state.missing(), state.repeated, state.chain_breaks) == (9, 0, 0, 0)
    assert state.misfits + state.undecodable == 1


def test_an_instance_that_nobody_knows_does_not_begin_with_such_a_number() -> None:
    state = State()
    apply(state, 1, 1.0, codec.encode(Batch("proxy", "host", "web", "w", LEAP + 1, [accepted(1)])), SUBJECT)
    assert (state.misfits, state.missing(), state.instances) == (1, 0, {})


@pytest.mark.parametrize("sequences", [(2**31,), (HORIZON + 7,), (2**31, 2**32, 2**32 + 5)])
def test_a_forged_number_makes_no_repeat_of_what_the_instance_says_later(sequences: tuple[int, ...]) -> None:
    state = State()
    honest = chained("w", 20)
    forged = [codec.encode(Batch("proxy", "host", "web", "w", one, [], b"?" * 32)) for one in sequences]
    for position, payload in enumerate([*honest[:5], *forged, *honest[5:]], 1):
        apply(state, position, 1.0, payload, SUBJECT)
    assert (state.ports[KEY].connections, state.missing(), state.repeated) == (20, 0, 0)
    assert state.chain_breaks == 1
    assert state.instances["w"].last == 20


def test_a_leap_that_was_true_stays_counted_as_missing() -> None:
    state = State()
    honest = chained("w", HORIZON * 3)
    for position, payload in enumerate([*honest[:5], *honest[HORIZON * 2 :]], 1):
        apply(state, position, 1.0, payload, SUBJECT)
    assert (state.missing(), state.chain_breaks, state.repeated) == (HORIZON * 2 - 5, 0, 0)
    apply(state, 9999, 1.0, honest[3], SUBJECT)
    assert (state.missing(), state.repeated) == (HORIZON * 2 - 5, 1)
