"""A snapshot: the state of the fold as bytes. No I/O.

It names the stream that it was folded from, and its position there: with the messages after that position it gives
what the whole log gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from services.metrics_gateway.state import State

VERSION = 2
"""One more whenever the state has another layout, or the fold makes something else of an event."""


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


# Whole numbers beyond 64 bits, which MessagePack does not have, are written as text.
_states = msgspec.msgpack.Decoder(State, strict=False)


def encode(state: State, stream: str) -> bytes:
    """The snapshot of a state folded from the stream that was created at `stream`."""
    return msgspec.msgpack.encode(Snapshot(VERSION, stream, state.position, _packed(state)))


def decode(data: bytes, stream: str, last: int) -> Snapshot:
    """A snapshot of the stream created at `stream` that ends at `last`, its state not decoded yet.

    Raises SnapshotError.
    """
    try:
        version = msgspec.msgpack.decode(data, type=Versioned).version
        if version != VERSION:
            raise SnapshotError(f"version {version}, and this program knows version {VERSION}")
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"no snapshot: {error}") from None
    if snapshot.stream != stream:
        raise SnapshotError(f"of a stream created {snapshot.stream}, and this one was created {stream}")
    if snapshot.position > last:
        raise SnapshotError(f"of position {snapshot.position}, and the stream ends at {last}")
    return snapshot


def restore(snapshot: Snapshot) -> State:
    """The state that was saved. Raises SnapshotError."""
    try:
        return _states.decode(snapshot.state)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"no state: {error}") from None


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
    items: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, dict) else msgspec.structs.asdict(value).items()
    )
    return {key: _packed(item) for key, item in items}
