"""The messages that a log holds already, in memory that grows with its instances, not its messages."""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256

import msgspec

ROW = 64
"""Digests in a piece of memory: few, so that single numbers far apart cost little."""

KEPT = 8
"""Bytes kept of a digest: a log of ten million batches takes 80 MB."""


class _Identity(msgspec.Struct, array_like=True):
    """The first fields of a batch."""

    service: str
    host: str
    app: str
    instance: str
    sequence: int


_identity = msgspec.msgpack.Decoder(_Identity)


class Ranges:
    """A set of numbers that are mostly consecutive."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, number: int) -> bool:
        """Add a number. Return whether it is new."""
        place = bisect_right(self._starts, number)
        if place and number <= self._ends[place - 1]:
            return False
        before = bool(place) and self._ends[place - 1] == number - 1
        after = place < len(self._starts) and self._starts[place] == number + 1
        if before and after:
            self._ends[place - 1] = self._ends.pop(place)
            del self._starts[place]
        elif before:
            self._ends[place - 1] = number
        elif after:
            self._starts[place] = number
        else:
            self._starts.insert(place, number)
            self._ends.insert(place, number)
        return True

    @property
    def first(self) -> int:
        """The lowest number; 0 if there is none."""
        return self._starts[0] if self._starts else 0

    @property
    def last(self) -> int:
        """The highest number; 0 if there is none."""
        return self._ends[-1] if self._ends else 0

    def gaps(self) -> list[tuple[int, int]]:
        """Return the ranges between the lowest and the highest number that are not in it, ends included."""
        return [(end + 1, start - 1) for end, start in zip(self._ends, self._starts[1:], strict=False)]


class Digests:
    """Digests by number. The first bytes are kept: enough to distinguish a repeat from other content."""

    def __init__(self) -> None:
        self._rows: dict[int, bytearray] = {}

    def keep(self, number: int, digest: bytes) -> None:
        """Keep the digest of a number."""
        row, place = divmod(number, ROW)
        self._rows.setdefault(row, bytearray(ROW * KEPT))[place * KEPT : (place + 1) * KEPT] = digest[:KEPT]

    def has(self, number: int, digest: bytes) -> bool:
        """Return whether this is the digest of the number."""
        row, place = divmod(number, ROW)
        return self._rows.get(row, b"")[place * KEPT : (place + 1) * KEPT] == digest[:KEPT]


class SeenBatches:
    """The batches that were seen, by instance and sequence; other messages by their content."""

    def __init__(self) -> None:
        self._instances: dict[str, Ranges] = {}
        self._others = Ranges()

    def add(self, payload: bytes) -> str:
        """Add a message. Return its message id, or an empty text if it was seen before."""
        try:
            batch = _identity.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            digest = sha256(payload)
            return digest.hexdigest() if self._others.add(int.from_bytes(digest.digest())) else ""
        is_new = self._instances.setdefault(batch.instance, Ranges()).add(batch.sequence)
        return f"{batch.instance}:{batch.sequence}" if is_new else ""
