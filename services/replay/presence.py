"""Which messages a log holds already, in memory that grows with its instances, not with its messages."""

from __future__ import annotations

from bisect import bisect_right
from hashlib import sha256

import msgspec


class _Identity(msgspec.Struct, array_like=True):
    """The beginning of a batch."""

    service: str
    host: str
    app: str
    instance: str
    sequence: int


_identity = msgspec.msgpack.Decoder(_Identity)


class Ranges:
    """A set of numbers that come mostly in rows."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, number: int) -> bool:
        """Whether the number is new."""
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


class Presence:
    """Batches are told apart by instance and sequence, what is no batch by its content."""

    def __init__(self) -> None:
        self._instances: dict[str, Ranges] = {}
        self._others = Ranges()

    def add(self, payload: bytes) -> str:
        """The message id, empty if the message is there already."""
        try:
            batch = _identity.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            digest = sha256(payload)
            return digest.hexdigest() if self._others.add(int.from_bytes(digest.digest())) else ""
        is_new = self._instances.setdefault(batch.instance, Ranges()).add(batch.sequence)
        return f"{batch.instance}:{batch.sequence}" if is_new else ""
