"""What a proxy worker leaves behind in a file when its master is gone: the batches that nobody else has."""

from __future__ import annotations

import msgspec

SUFFIX = ".handover"


class SealedBatch(msgspec.Struct, array_like=True, frozen=True):
    """A sealed batch of `events` events."""

    app: str
    message_id: str
    events: int
    payload: bytes


_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(list[SealedBatch])


def encode(batches: list[SealedBatch]) -> bytes:
    """The file's content."""
    return _encoder.encode(batches)


def decode(content: bytes) -> list[SealedBatch]:
    """What a file holds. Raises msgspec.MsgspecError."""
    return _batches.decode(content)
