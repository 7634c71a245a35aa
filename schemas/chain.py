"""The chain of an instance's batches: each carries the digest (SHA-256) of the one before it.

A batch that was changed, removed or inserted no longer fits its neighbours.
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


class SealedBatch(msgspec.Struct, array_like=True, frozen=True):
    """A batch of `events` events as it travels from the process that sealed it to the log: it never changes again."""

    app: str
    message_id: str
    events: int
    payload: bytes


class Sealer:
    """The maker of an instance's batches: it numbers them from 1, and chains them."""

    def __init__(self, service: str, host: str, instance: str, sequence: int = 0, head: bytes = b"") -> None:
        """`sequence` and `head`: number and digest of the last batch, where another process began the chain."""
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
        """Return the next batch, encoded."""
        self.sequence += 1
        batch = _Envelope(self.service, self.host, app, self.instance, self.sequence, events, self.head)
        payload = _encoder.encode(batch)
        self._head = digest(payload)
        return payload

    def follow(self, sequence: int, payload: bytes) -> None:
        """Continue after a batch that another process has sealed; its digest is computed only if a batch follows."""
        self.sequence, self._followed = sequence, payload


def digest(payload: bytes) -> bytes:
    """Return the digest that the next batch of the instance carries for this one."""
    return sha256(payload).digest()


def beginning(instance: str) -> bytes:
    """Return the digest that the first batch of an instance carries."""
    return digest(instance.encode())


def fits(links: dict[int, bytes], batch: Batch, payload: bytes) -> bool:
    """Report whether a batch fits the known batches of its instance, in whatever order they come.

    The caller keeps `links` for each instance from batch to batch, empty before the first: the digests that have only
    one end yet, by the sequence of the batch after them. The batches of an older version, all without `previous`, fit.
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
