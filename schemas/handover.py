"""What a proxy worker leaves behind in a file when its master is gone: the batches that nobody else has."""

from __future__ import annotations

import msgspec

SUFFIX = ".handover"


class Leftover(msgspec.Struct, array_like=True, frozen=True):
    """A sealed batch of `events` events."""

    app: str
    message_id: str
    events: int
    payload: bytes


_encoder = msgspec.msgpack.Encoder()
_leftovers = msgspec.msgpack.Decoder(list[Leftover])


def encode(leftovers: list[Leftover]) -> bytes:
    """The file's content."""
    return _encoder.encode(leftovers)


def decode(content: bytes) -> list[Leftover]:
    """What a file holds. Raises msgspec.MsgspecError."""
    return _leftovers.decode(content)
