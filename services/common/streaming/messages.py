"""The messages of streams, as MessagePack. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

POLL = 3.0
"""Seconds after which a request is answered although there are no chunks, or no room for its input; also those between
two signs of life of a slow reader."""

GONE = 10.0
"""Seconds of silence after which the other side is gone: three requests, and time for a connection to come back."""


class Open(msgspec.Struct, frozen=True):
    """The answer to a request that opens a stream: its id, or why there is none."""

    stream: str = ""
    problem: str = ""


class Read(msgspec.Struct, tag="read", frozen=True):
    """Ask for chunks. The first `after` chunks are acknowledged. `wait`: no answer before there are some."""

    after: int
    wait: bool = True


class Write(msgspec.Struct, tag="write", frozen=True):
    """Send input, the `sequence`-th message of it (from 1): bytes, their end, or the size of the reader's window.

    It is repeated until it is taken: a command may not read for as long as it likes.
    """

    sequence: int
    data: bytes = b""
    is_end: bool = False
    rows: int = 0
    columns: int = 0


class Close(msgspec.Struct, tag="close", frozen=True):
    """End the stream: the reader leaves."""


class End(msgspec.Struct, frozen=True):
    """The end of a stream. `code`: 0 if all is well, or the exit code of a command; `reason`: in words."""

    code: int = 0
    reason: str = ""


class Chunks(msgspec.Struct, frozen=True):
    """The next chunks, and the end if they are the last. The answer to a Write or Close holds none.

    `taken`: how many messages of input the producer has taken so far, in the answer to a Write.
    """

    chunks: list[bytes] = []
    end: End | None = None
    taken: int = 0


Request: TypeAlias = Read | Write | Close

_encoder = msgspec.msgpack.Encoder()
_request = msgspec.msgpack.Decoder(Request)
_chunks = msgspec.msgpack.Decoder(Chunks)


def encode(message: Any) -> bytes:
    """Return a message as it travels."""
    return _encoder.encode(message)


def request(payload: bytes) -> Request:
    """Return the request in `payload`. Raises msgspec.MsgspecError."""
    found: Request = _request.decode(payload)
    return found


def chunks(payload: bytes) -> Chunks:
    """Return the answer in `payload`. Raises msgspec.MsgspecError."""
    return _chunks.decode(payload)
