"""The chain of an instance's batches: each carries the digest (SHA-256) of the one before it.

A batch that is changed, taken out or put in between no longer fits its neighbours.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from schemas.codec import Batch

_encoder = msgspec.msgpack.Encoder()


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """A Batch whose events are already encoded."""

    service: str
    host: str
    app: str
    instance: str
    sequence: int
    events: msgspec.Raw
    previous: bytes


class Sealer:
    """Makes the batches of one instance: numbers them from 1, and chains them."""

    def __init__(self, service: str, host: str, instance: str, sequence: int = 0, head: bytes = b"") -> None:
        """`sequence` and `head`: number and digest of the last batch, where somebody else began the chain."""
        self.service = service
        self.host = host
        self.instance = instance
        self.sequence = sequence
        self._head = head or beginning(instance)
        self._followed: bytes | None = None

    @property
    def head(self) -> bytes:
        """The digest of the last batch."""
        if self._followed is not None:
            self._head, self._followed = digest(self._followed), None
        return self._head

    def seal(self, app: str, events: msgspec.Raw) -> bytes:
        """The next batch, as it travels."""
        self.sequence += 1
        batch = _Envelope(self.service, self.host, app, self.instance, self.sequence, events, self.head)
        payload = _encoder.encode(batch)
        self._head = digest(payload)
        return payload

    def follow(self, sequence: int, payload: bytes) -> None:
        """Go on after a batch that another process has sealed; its digest is computed only if a batch follows."""
        self.sequence, self._followed = sequence, payload


def digest(payload: bytes) -> bytes:
    """What the next batch of the instance says about this one."""
    return sha256(payload).digest()


def beginning(instance: str) -> bytes:
    """What the first batch of an instance carries."""
    return digest(instance.encode())


def fits(links: dict[int, bytes], batch: Batch, payload: bytes) -> bool:
    """Whether a batch fits those of its instance that are known, in whatever order they come.

    `links` is kept for an instance from batch to batch, empty before the first: the digests that have only one
    end yet, by the sequence of the batch after them. An instance of a version that did not chain never does.
    """
    if batch.sequence == 1:
        links[1] = beginning(batch.instance) if batch.previous else b""
    before = _meet(links, batch.sequence, batch.previous)
    after = _meet(links, batch.sequence + 1, digest(payload) if batch.previous else b"")
    return before and after


def _meet(links: dict[int, bytes], sequence: int, end: bytes) -> bool:
    other = links.pop(sequence, None)
    if other is None:
        links[sequence] = end
    return other is None or other == end
