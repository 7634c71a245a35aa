"""A snapshot: the state of the fold as bytes. No I/O.

It names its stream and its position there. With the messages after that position it gives what the whole log gives.
When the stream was created again, or has lost its end, the sums continue with the messages that are there: the fold
knows a batch that it has applied by its sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from services.metrics_gateway.state.state import State

VERSION = 5
"""Increased whenever the state has another layout, or the fold applies an event differently."""


LARGEST_SUM = 1e30
"""More nanoseconds or bytes than any log adds up to; beyond about 1e308 a sum could not be shown at all."""


class SnapshotError(Exception):
    """The error of a snapshot that cannot be used."""


class Versioned(msgspec.Struct, frozen=True, array_like=True):
    """The first field of a snapshot of any version."""

    version: int


class Snapshot(Versioned, frozen=True, array_like=True):
    """A snapshot as it is stored."""

    stream: str
    position: int
    state: msgspec.Raw
    events: int = 0


# MessagePack has integers of 64 bits only: larger ones are written as text.
_states = msgspec.msgpack.Decoder(State, strict=False)


def encode(state: State, stream: str) -> bytes:
    """Return the snapshot of a state that was folded from the stream created at `stream`."""
    return msgspec.msgpack.encode(Snapshot(VERSION, stream, state.position, _packed(state), state.events))


def decode(data: bytes, stream: str, last: int) -> Snapshot:
    """Return a snapshot, its state not decoded yet, with the position where it continues in a stream (see `resume`).

    Raises SnapshotError.
    """
    try:
        version = msgspec.msgpack.decode(data, type=Versioned).version
        if version != VERSION:
            raise SnapshotError(f"version {version}, and this program reads version {VERSION}")
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"not a snapshot: {error}") from None
    position = resume(snapshot.position, snapshot.stream, stream, last)
    return msgspec.structs.replace(snapshot, position=position)


def resume(position: int, folded: str, stream: str, last: int) -> int:
    """Return where a state at `position` in the stream created at `folded` continues in another stream."""
    return min(position, last) if folded == stream else 0


def restore(snapshot: Snapshot) -> State:
    """Return the saved state. Raises SnapshotError."""
    try:
        state = _states.decode(snapshot.state)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"not a state: {error}") from None
    if not _is_possible(state):
        raise SnapshotError("it holds a number that no log gives")
    state.position = snapshot.position
    for instance in state.instances.values():
        for listener in instance.listeners.values():
            listener.recount()
    return state


def copied(state: State) -> State:
    """Return an independent copy of a state."""
    return restore(decode(encode(state, ""), "", state.position))


def _is_possible(value: Any) -> bool:
    """Return whether every number in a part of the state could be shown."""
    if isinstance(value, int | float):
        return -LARGEST_SUM < value < LARGEST_SUM
    if isinstance(value, msgspec.Struct):
        return all(_is_possible(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return all(map(_is_possible, value)) and all(map(_is_possible, value.values()))
    return not isinstance(value, list | tuple | set) or all(map(_is_possible, value))


def _packed(value: Any) -> msgspec.Raw:
    """Return any part of the state as MessagePack. Only a part with a number that is too large is taken apart."""
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
