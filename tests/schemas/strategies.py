"""Any event, with any value that its fields may hold; and any value at all in their places."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event

MOST_TEXT = 40
"""Characters: the limits are tested one by one, not by long texts everywhere."""

INTEGERS = st.integers(-(2**63), 2**64 - 1)
WILD: dict[Any, st.SearchStrategy[Any]] = {
    int: INTEGERS | st.sampled_from([-1, 0, 65536, 70000, 2**53 + 1, 2**62, 2**63, 2**64 - 1]),
    float: st.floats() | st.sampled_from([-1.0, 1e10, -1e300, 1.7e299, 1e15]),
    str: st.text(max_size=MOST_TEXT)
    | st.sampled_from(["", "\x00", "\x1b[2J", "a\nb", "fe80::1%nosuch", "\u2028", "x" * 2000]),
    bool: st.booleans(),
    bytes: st.binary(max_size=64),
}
"""What a program that is damaged or hostile may send in the place of a value."""


def within(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, within its limits."""
    bare, limits = get_args(kind) if get_origin(kind) is Annotated else (kind, msgspec.Meta())
    if bare is int:
        return st.integers(-(2**63) if limits.ge is None else limits.ge, 2**64 - 1 if limits.le is None else limits.le)
    if bare is float:
        least = limits.gt if limits.ge is None else limits.ge
        return st.floats(least, limits.lt, exclude_min=limits.ge is None, exclude_max=True)
    if bare is str:
        return st.text(min_size=limits.min_length or 0, max_size=MOST_TEXT)
    if get_origin(bare) is dict:
        key, value = get_args(bare)
        return st.dictionaries(within(key), within(value), max_size=3)
    if get_origin(bare) is list:
        return st.lists(within(get_args(bare)[0]), max_size=4)
    if get_origin(bare) is Literal:
        return st.sampled_from(get_args(bare))
    if get_origin(bare) in (UnionType, Union):
        return st.one_of(*map(within, get_args(bare)))
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return st.builds(bare, **{field.name: within(field.type) for field in msgspec.structs.fields(bare)})
    return st.none() if bare is type(None) else WILD[bare]


def instances(kind: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(kind, **{field.name: within(field.type) for field in msgspec.structs.fields(kind)})


events = st.one_of([instances(kind) for kind in EVENT_TYPES])
envelopes = {
    field.name: within(field.type)
    for field in msgspec.structs.fields(Batch)
    if field.name not in ("events", "previous")
}
batches = st.builds(Batch, events=st.lists(events, max_size=8), previous=st.binary(max_size=32), **envelopes)
