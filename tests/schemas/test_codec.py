"""Batches on the wire: what goes in comes out, what is newer is skipped, what is broken is said to be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec, limits
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event, EventsDropped, HealthChanged, RegistryFailed, ServiceStopped
from schemas.reference import tag_of
from tests.schemas.strategies import batches, events, instances

ENVELOPE = ["health", "host", "web", "instance", 1]
FUTURE_TAGS = [tag for tag in range(256) if tag not in {tag_of(kind) for kind in EVENT_TYPES}]
LONG_ARRAYS = [bytes([head]) for head in (*range(0x96, 0xA0), 0xDC, 0xDD)]

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
futures = st.builds(lambda tag, fields: [tag, *fields], st.sampled_from(FUTURE_TAGS), st.lists(anything, max_size=4))


LEAST: dict[Any, Any] = {limits.Port: lambda: 1}


def wire(*events: Any) -> bytes:
    """A batch of events that are given as they travel."""
    return msgspec.msgpack.encode([*ENVELOPE, list(events)])


def as_it_travels(event: Event) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(codec.encode_events([event]))[0]
    return fields


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_event_comes_out_as_it_went_in(kind: type[Event]) -> None:
    @given(st.lists(instances(kind), max_size=3))
    def round_trip(events: list[Any]) -> None:
        assert codec.decode_events(codec.encode_events(events)) == events

    round_trip()


@given(batches)
def test_every_batch_comes_out_as_it_went_in(batch: Batch) -> None:
    assert codec.decode(codec.encode(batch)) == codec.Decoded(batch, 0)


@given(st.lists(events | futures, max_size=12))
def test_events_with_future_tags_are_skipped_and_counted_and_the_rest_stays_in_order(mixed: list[Any]) -> None:
    known: list[Any] = [event for event in mixed if isinstance(event, Event)]
    payload = wire(*[as_it_travels(event) if isinstance(event, Event) else event for event in mixed])
    assert codec.decode(payload) == codec.Decoded(
        Batch("health", "host", "web", "instance", 1, known), len(mixed) - len(known)
    )


@given(events, st.lists(anything, min_size=1, max_size=3), st.booleans())
def test_fields_that_a_newer_writer_appends_are_passed_over(
    event: Event, extra: list[Any], beside_future: bool
) -> None:
    newer = [[FUTURE_TAGS[0], "new"]] if beside_future else []
    decoded = codec.decode(wire(as_it_travels(event) + extra, *newer))
    assert decoded.batch.events == [event]
    assert decoded.unknown == len(newer)


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_fields_that_an_older_writer_did_not_know_take_their_defaults(kind: type[Event]) -> None:
    fields = msgspec.structs.fields(kind)
    required = [field for field in fields if field.required]
    assert all(not field.required for field in fields[len(required) :])
    values = {field.name: LEAST.get(field.type, field.type)() for field in required}
    assert codec.decode(wire([tag_of(kind), *values.values()])).batch.events == [kind(**values)]


@given(st.binary(max_size=200).filter(lambda garbage: garbage[:1] not in LONG_ARRAYS))
def test_garbage_is_a_decoding_error_and_nothing_else(garbage: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        codec.decode(garbage)


@given(batches, st.data())
def test_damage_is_a_decoding_error_or_another_batch_and_nothing_else(batch: Batch, data: st.DataObject) -> None:
    payload = bytearray(codec.encode(batch))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = codec.decode(bytes(payload))
    except msgspec.MsgspecError:
        return
    assert isinstance(decoded.batch, Batch)


@pytest.mark.parametrize(
    "event",
    [
        b"\x91\x91\x01",  # a list for a tag
        b"\x91\xa1a",  # a text for a tag
        b"\x90",  # no tag
        b"\x01",  # not even an array
        b"\x93\x03\x00\xa1\xff",  # a text that is not UTF-8
        b"\x92\xcc\xc8" + b"\x91" * 100_000 + b"\x01",  # nested without end
        b"\x93\x03\x00" + b"\x91" * 100_000 + b"\x01",
    ],
    ids=["list tag", "text tag", "no tag", "no array", "bad text", "deep", "deep known"],
)
def test_an_event_that_cannot_be_one_is_a_decoding_error(event: bytes) -> None:
    payload = b"\x96" + b"".join(map(msgspec.msgpack.encode, ENVELOPE)) + b"\x91" + event
    with pytest.raises(msgspec.MsgspecError):
        codec.decode(payload)


def test_a_known_event_with_a_wrong_field_is_left_out_and_counted_also_beside_a_future_one() -> None:
    good = ServiceStopped(2.0, "stopped")
    decoded = codec.decode(wire([tag_of(ServiceStopped), 1.0, 7], [FUTURE_TAGS[0]], as_it_travels(good)))
    assert (decoded.batch.events, decoded.unknown, decoded.malformed) == ([good], 1, 1)


def test_a_worker_s_events_must_all_be_known() -> None:
    stopped = HealthChanged(1.0, "web-1", True)
    assert codec.decode_events(codec.encode_events([stopped])) == [stopped]
    with pytest.raises(msgspec.ValidationError):
        codec.decode_events(msgspec.msgpack.encode([[FUTURE_TAGS[0], 1.0]]))


def test_text_that_is_no_utf_8_travels_readably_and_takes_nothing_else_with_it() -> None:
    failed = RegistryFailed(1.5, "dir:///srv/rel\udcff", "no\ud800pe", 2)
    dropped = EventsDropped(2.5, 3, {"\udcfe": 3})
    stopped = ServiceStopped(3.5, "ok ü")
    assert codec.decode_events(codec.encode_events([failed, dropped, stopped])) == [
        RegistryFailed(1.5, "dir:///srv/rel\ufffd", "no\ufffdpe", 2),
        EventsDropped(2.5, 3, {"\ufffd": 3}),
        stopped,
    ]
    assert codec.joined([codec.encode_event(failed)]) == codec.encode_events([failed])
