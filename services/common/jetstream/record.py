"""A message of the log, in the stream or in a file."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A message: its place in the stream, when it was stored there (unix seconds), its subject and payload.

    `began`: the start (unix seconds) of the log that it was imported from, if that log had lost its beginning, else 0.
    """

    sequence: int
    time: float
    subject: str
    payload: bytes
    began: float = 0.0
