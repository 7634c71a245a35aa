"""A snapshot: the state of the fold as bytes. No I/O.

It names the stream that it was folded from, and its position there: with the messages after that position it gives
what the whole log gives. When the stream was made anew, or has lost its end, its sums go on with what is there: a
batch that was folded before is known by its sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from services.metrics_gateway.state.state import State

VERSION = 4
"""One more whenever the state has another layout, or the fold makes something else of an event."""


LARGEST_SUM = 1e30
"""More nanoseconds or bytes than any log adds up to; beyond about 1e308 a sum could not be shown at all."""


class SnapshotError(Exception):
    """A snapshot cannot be used."""


class Versioned(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot of any version begins with."""

    version: int


class Snapshot(Versioned, frozen=True, array_like=True):
    """As it is stored."""

    stream: str
    position: int
    state: msgspec.Raw
    events: int = 0


# Whole numbers beyond 64 bits, which MessagePack does not have, are written as text.
_states = msgspec.msgpack.Decoder(State, strict=False)


def encode(state: State, stream: str) -> bytes:
    """The snapshot of a state folded from the stream that was created at `stream`."""
    return msgspec.msgpack.encode(Snapshot(VERSION, stream, state.position, _packed(state), state.events))


def decode(data: bytes, stream: str, last: int) -> Snapshot:
    """A snapshot, its state not decoded yet, with the position from which it goes on in a stream (see `resume`).

    Raises SnapshotError.
    """
    try:
        version = msgspec.msgpack.decode(data, type=Versioned).version
        if version != VERSION:
            raise SnapshotError(f"version {version}, and this program knows version {VERSION}")
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"no snapshot: {error}") from None
    position = resume(snapshot.position, snapshot.stream, stream, last)
    return msgspec.structs.replace(snapshot, position=position)


def resume(position: int, folded: str, stream: str, last: int) -> int:
    """The position in a stream of a state that was at `position` in the stream created at `folded`."""
    return min(position, last) if folded == stream else 0


def restore(snapshot: Snapshot) -> State:
    """The state that was saved. Raises SnapshotError."""
    try:
        state = _states.decode(snapshot.state)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"no state: {error}") from None
    if not _is_possible(state):
        raise SnapshotError("it holds a number that no log gives")
    state.position = snapshot.position
    for instance in state.instances.values():
        for listener in instance.listeners.values():
            listener.recount()
    return state


def copied(state: State) -> State:
    """A state of its own that is the same."""
    return restore(decode(encode(state, ""), "", state.position))


def _is_possible(value: Any) -> bool:
    """Whether every number in a part of the state could be shown."""
    if isinstance(value, int | float):
        return -LARGEST_SUM < value < LARGEST_SUM
    if isinstance(value, msgspec.Struct):
        return all(_is_possible(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return all(map(_is_possible, value)) and all(map(_is_possible, value.values()))
    return not isinstance(value, list | tuple | set) or all(map(_is_possible, value))


def _packed(value: Any) -> msgspec.Raw:
    """MessagePack of any part of the state; only what holds a number that is too large is taken apart."""
    try:
        return msgspec.Raw(msgspec.msgpack.encode(value))
    except OverflowError:
        return msgspec.Raw(msgspec.msgpack.encode(_taken_apart(value)))


def _taken_apart(value: Any) -> str | dict[Any, msgspec.Raw] | list[msgspec.Raw]:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return [_packed(item) for item in value]
    items = value.items() if isinstance(value, dict) else _stored_fields(value)
    return {key: _packed(item) for key, item in items}


def _stored_fields(part: msgspec.Struct) -> Iterable[tuple[str, Any]]:
    """Return the fields of a part of the state under the names that they have in a snapshot."""
    values = (getattr(part, name) for name in part.__struct_fields__)
    return zip(part.__struct_encode_fields__, values, strict=True)
