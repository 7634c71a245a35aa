"""Commands and bucket values travel as JSON, and come out as they went in."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.commands import Command, Reply
from schemas.routing import Decisions, Health, Lease, Replica, Route, Serving
from tests.schemas.strategies import within

KINDS = (Route, Serving, Replica, Health, Decisions, Lease)


def filled(kind: Any) -> st.SearchStrategy[Any]:
    """A value whose every field is within its limits."""
    return st.builds(kind, **{field.name: within(field.type) for field in msgspec.structs.fields(kind)})


values = st.one_of(
    *map(filled, KINDS),
    st.builds(Reply, st.booleans(), st.text(), st.text()),
)


def commands(kind: Any) -> st.SearchStrategy[Command]:
    return st.builds(kind, **{field.name: within(field.type) for field in msgspec.structs.fields(kind)})


@given(values)
def test_every_value_of_a_bucket_and_every_reply_comes_out_as_it_went_in(value: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


@pytest.mark.parametrize("kind", get_args(Command), ids=lambda kind: kind.__name__)
def test_every_command_comes_out_as_it_went_in(kind: Any) -> None:
    @given(commands(kind))
    def round_trip(command: Command) -> None:
        encoded = msgspec.json.encode(command)
        assert msgspec.json.decode(encoded, type=Command) == command
        assert msgspec.json.decode(encoded)["type"] == kind.__struct_config__.tag

    round_trip()


@given(values, st.dictionaries(st.text().map(lambda name: f"new {name}"), st.text(), max_size=3))
def test_fields_that_a_newer_writer_adds_are_passed_over(value: Any, extra: dict[str, str]) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(value)) | extra
    assert msgspec.json.decode(msgspec.json.encode(newer), type=type(value)) == value


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b'"deploy"', b'{"type":"sing"}', b'{"type":"drain"}', b'{"type":"deploy","release":1}']
)
def test_what_is_not_a_command_is_a_decoding_error(garbage: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(garbage, type=Command)


@given(st.binary(max_size=300) | st.binary(max_size=50).map(lambda text: b'{"app":"' + text + b'"}'))
def test_rubbish_is_refused_as_such(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        codec.value(payload, Route)
    with pytest.raises(msgspec.MsgspecError):
        codec.value(b"[" * 10_000, Route)
