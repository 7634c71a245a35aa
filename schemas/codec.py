"""Batches on the wire: MessagePack through msgspec, with events that a reader does not know skipped and counted."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from schemas import subjects
from schemas.events import EVENT_TYPES, AnyEvent, Event
from schemas.limits import Identity, Name, Sequence


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """One message of the log: its writer, its place in that instance's sequence (from 1), and the events.

    `previous`: the digest of the instance's batch before this one (`schemas.chain`); empty in old logs.
    """

    service: Name
    host: Name
    app: Name
    instance: Identity
    sequence: Sequence
    events: list[AnyEvent]
    previous: bytes = b""


class Decoded(msgspec.Struct, frozen=True):
    """A batch, and its events that this reader skipped: of `unknown` kinds, or `malformed`, with impossible values."""

    batch: Batch
    unknown: int
    malformed: int = 0


class MisfitError(msgspec.ValidationError):
    """A batch names another service, host or application than its subject, to which an account is bound."""


class _RawBatch(msgspec.Struct, array_like=True):
    service: Name
    host: Name
    app: Name
    instance: Identity
    sequence: Sequence
    events: list[msgspec.Raw]
    previous: bytes = b""


class _Head(msgspec.Struct, array_like=True):
    tag: int


class _Heads(msgspec.Struct, array_like=True):
    service: str
    host: str
    app: str
    instance: str
    sequence: int
    events: list[_Head]


_SURROGATE = re.compile("[\ud800-\udfff]")
_NAMES = {kind.__struct_config__.tag: kind.__name__ for kind in EVENT_TYPES}
_encoder = msgspec.msgpack.Encoder()
_batch = msgspec.msgpack.Decoder(Batch)
_raw_batch = msgspec.msgpack.Decoder(_RawBatch)
_event = msgspec.msgpack.Decoder(AnyEvent)
_events = msgspec.msgpack.Decoder(list[AnyEvent])
_head = msgspec.msgpack.Decoder(_Head)
_heads = msgspec.msgpack.Decoder(_Heads)


def encode(batch: Batch) -> bytes:
    """Return the batch as it is published."""
    return _encoder.encode(batch)


def decode(payload: bytes, subject: str = "") -> Decoded:
    """Return the batch in `payload`, which was published on `subject` (empty: unknown).

    Raises MisfitError if it cannot be from that subject, msgspec.ValidationError or msgspec.DecodeError if it is no
    batch.
    """
    try:
        decoded = _decode(payload)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec raises these for bytes that are no batch
        raise msgspec.DecodeError(str(error)) from None
    batch = decoded.batch
    if subject and not subjects.fits(subject, batch.service, batch.host, batch.app):
        raise MisfitError(f"a batch of {batch.service} about {batch.app} on {subject}")
    return decoded


def encode_events(events: Iterable[Event]) -> bytes:
    """Encode events without an envelope, as a batch holds them. Surrogates, which UTF-8 cannot hold, become U+FFFD."""
    return _encoded(events)


def encode_event(event: Event) -> bytes:
    """Encode one event, for `joined`."""
    return _encoded(event)


def joined(events: Iterable[bytes]) -> bytes:
    """Join encoded events, as `encode_events` encodes them."""
    return _encoder.encode([msgspec.Raw(event) for event in events])


def kind(event: bytes) -> str:
    """Return the kind of an encoded event."""
    return _name(_head.decode(event))


def decode_events(payload: bytes) -> list[AnyEvent]:
    """Return the events in `payload`, all of which must be known. Raises as `decode` does."""
    try:
        return _events.decode(payload)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def value(payload: bytes, kind: Any) -> Any:
    """Decode a bucket's value or a command from JSON. Raises msgspec.ValidationError or msgspec.DecodeError."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def kinds(payload: bytes) -> Counter[str]:
    """Count the events of a batch by kind. Raises as `decode` does."""
    return Counter(map(_name, _heads.decode(payload).events))


def _encoded(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_readable(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_readable(one) for one in value]
    if isinstance(value, dict):
        return {_readable(key): _readable(one) for key, one in value.items()}
    return value


def _decode(payload: bytes) -> Decoded:
    try:
        return Decoded(_batch.decode(payload), 0)
    except msgspec.ValidationError:
        return _decode_leniently(payload)


def _decode_leniently(payload: bytes) -> Decoded:
    raw = _raw_batch.decode(payload)
    known = [event for event in raw.events if _is_known(event)]
    good = list(_good(known))
    batch = Batch(raw.service, raw.host, raw.app, raw.instance, raw.sequence, good, raw.previous)
    return Decoded(batch, len(raw.events) - len(known), len(known) - len(good))


def _good(events: Iterable[msgspec.Raw]) -> Iterator[AnyEvent]:
    for event in events:
        with contextlib.suppress(msgspec.ValidationError):
            yield _event.decode(event)


def _name(head: _Head) -> str:
    return _NAMES.get(head.tag, f"tag {head.tag}")


def _is_known(event: msgspec.Raw) -> bool:
    return _head.decode(event).tag in _NAMES
