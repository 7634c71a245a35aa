"""The wire format does not change behind anybody's back: see golden.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas import codec
from schemas.codec import Batch
from schemas.events import EVENT_TYPES, AnyEvent, Event, HealthChecked
from schemas.reference import tag_of
from tests.schemas import golden

GOLDEN = golden.load()


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_event_has_a_golden_sample_of_all_its_fields(kind: type[Event]) -> None:
    assert kind.__name__ in GOLDEN.events, "run `make golden` and commit what it appends"
    agreed = GOLDEN.events[kind.__name__]
    assert agreed.fields == ", ".join(golden.fields(kind)), "run `make golden` and commit what it appends"
    assert agreed.samples[-1] == golden.sample(golden.instance(kind))


def test_the_events_keep_what_was_agreed() -> None:
    assert golden.objections(GOLDEN) == []


def test_tags_are_unique() -> None:
    tags = [tag_of(kind) for kind in EVENT_TYPES]
    assert len(set(tags)) == len(tags)
    assert all(0 < tag < 128 for tag in tags)  # one byte on the wire


@pytest.mark.parametrize("name", GOLDEN.events)
def test_bytes_that_were_once_written_are_read_for_ever(name: str) -> None:
    for sample in GOLDEN.events[name].samples:
        (event,) = codec.decode_events(bytes.fromhex(sample.bytes))
        assert type(event).__name__ == name
        values = msgspec.json.decode(sample.value)[0][1:]
        assert list(msgspec.structs.astuple(event))[: len(values)] == values


def test_a_batch_travels_as_agreed() -> None:
    assert ", ".join(golden.fields(Batch)) == GOLDEN.envelope, "run `make golden` and commit what it appends"
    assert golden.sample(golden.BATCH) == GOLDEN.batches[-1]
    for sample in GOLDEN.batches:
        assert codec.decode(bytes.fromhex(sample.bytes)).unknown == 0
    assert codec.decode(bytes.fromhex(GOLDEN.batches[-1].bytes)).batch == golden.BATCH


class Swapped(msgspec.Struct, array_like=True, frozen=True):
    host: str
    service: str
    app: str
    instance: str
    sequence: int
    events: list[AnyEvent]
    previous: bytes = b""


class Cut(msgspec.Struct, array_like=True, frozen=True):
    service: str
    host: str
    app: str
    instance: str
    sequence: int
    events: list[AnyEvent]


class Widened(Batch, frozen=True):
    more: int = 0


class Burdened(msgspec.Struct, array_like=True, frozen=True):
    service: str
    host: str
    app: str
    instance: str
    sequence: str
    events: list[AnyEvent]
    previous: bytes = b""


@pytest.mark.parametrize("change", [Swapped, Cut, Burdened])
def test_a_batch_whose_fields_are_reordered_removed_or_retyped_is_objected_to(change: Any) -> None:
    assert golden.objections(GOLDEN, envelope=change) == [
        "Batch has other fields than agreed: a field is only ever appended"
    ]


def test_a_batch_may_grow() -> None:
    assert golden.objections(GOLDEN, envelope=Widened) == []


class Retagged(Event, tag=62, frozen=True, gc=False):
    replica: str
    ok: bool
    latency: float
    reason: str = ""


class Shrunk(Event, tag=60, frozen=True, gc=False):
    replica: str
    ok: bool


class Retyped(Event, tag=60, frozen=True, gc=False):
    replica: str
    ok: int
    latency: float
    reason: str = ""


class Reordered(Event, tag=60, frozen=True, gc=False):
    ok: bool
    replica: str
    latency: float
    reason: str = ""


class Redefaulted(Event, tag=60, frozen=True, gc=False):
    replica: str
    ok: bool
    latency: float
    reason: str = "none"


class Demanding(Event, tag=60, frozen=True, gc=False, kw_only=True):
    replica: str
    ok: bool
    latency: float
    reason: str = ""
    attempt: int


class Grown(Event, tag=60, frozen=True, gc=False):
    replica: str
    ok: bool
    latency: float
    reason: str = ""
    attempt: int = 1


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        (Retagged, "another tag than 60"),
        (Shrunk, "only ever appended"),
        (Retyped, "only ever appended"),
        (Reordered, "only ever appended"),
        (Redefaulted, "only ever appended"),
        (Demanding, "new field without a default"),
    ],
)
def test_a_change_of_what_was_agreed_is_objected_to(change: type[Event], objection: str) -> None:
    (problem,) = objections_to(change)
    assert objection in problem


def test_a_new_field_with_a_default_is_welcome() -> None:
    assert objections_to(Grown) == []


def test_an_event_that_is_gone_and_a_tag_that_is_used_again_are_objected_to() -> None:
    others = tuple(kind for kind in EVENT_TYPES if kind is not HealthChecked)
    assert golden.objections(GOLDEN, others) == ["HealthChecked is gone"]
    assert golden.objections(GOLDEN, (*EVENT_TYPES, Grown)) == ["Grown has the tag of HealthChecked"]


def objections_to(change: type[Event]) -> list[str]:
    """What is said about HealthChecked, had it this shape."""
    agreed = golden.Golden({change.__name__: GOLDEN.events["HealthChecked"]})
    return golden.objections(agreed, (change,))
