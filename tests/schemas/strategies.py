"""Any event, with any value that its fields may hold."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas.codec import Batch
from schemas.events import EVENT_TYPES, Event

integers = st.integers(-(2**63), 2**64 - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: integers,
    float: st.floats(allow_nan=False),
    str: st.text(),
    bool: st.booleans(),
    dict[str, int]: st.dictionaries(st.text(), integers, max_size=3),
}


def instances(kind: type[Event]) -> st.SearchStrategy[Event]:
    return st.builds(kind, **{field.name: VALUES[field.type] for field in msgspec.structs.fields(kind)})


events = st.one_of([instances(kind) for kind in EVENT_TYPES])
batches = st.builds(
    Batch,
    service=st.text(),
    host=st.text(),
    app=st.text(),
    instance=st.text(),
    sequence=st.integers(1, 2**63),
    events=st.lists(events, max_size=8),
    previous=st.binary(max_size=32),
)
