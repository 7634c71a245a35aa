"""The file that a proxy worker leaves when its master is gone: the batches that no other process has."""

from __future__ import annotations

import msgspec

from schemas.chain import SealedBatch

SUFFIX = ".handover"


_encoder = msgspec.msgpack.Encoder()
_batches = msgspec.msgpack.Decoder(list[SealedBatch])


def encode(batches: list[SealedBatch]) -> bytes:
    """Return the content of a file."""
    return _encoder.encode(batches)


def decode(content: bytes) -> list[SealedBatch]:
    """Return the batches in a file. Raises msgspec.MsgspecError."""
    try:
        return _batches.decode(content)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec raises these for bytes that are no batches
        raise msgspec.DecodeError(str(error)) from error
