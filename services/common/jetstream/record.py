"""A message of the log, wherever it is kept."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A message: its place in the stream, when it was stored there (unix seconds), its subject and payload.

    `began`: when the log began that it was imported from, if that had lost what was before (unix seconds), else 0.
    """

    sequence: int
    time: float
    subject: str
    payload: bytes
    began: float = 0.0
