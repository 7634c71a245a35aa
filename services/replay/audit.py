"""Is a log whole? Every batch of every instance there, once, and as it was sealed. No I/O, no clock."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas import chain, codec
from schemas.codec import Batch
from schemas.events import EventsDropped

Kind = Literal["gap", "repeat", "altered", "hole", "unreadable"]
MOST = 100
"""So many findings of a kind are told one by one."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, at a sequence of the stream (0: nowhere in particular)."""

    kind: Kind
    sequence: int
    instance: str
    text: str


class Instance(msgspec.Struct):
    """The batches of one process. `missing`: ranges between `first` and `last`, both ends included."""

    service: str
    host: str
    id: str
    first: int
    last: int
    is_chained: bool
    batches: int = 0
    repeated: int = 0
    altered: int = 0
    dropped: int = 0
    missing: list[tuple[int, int]] = []
    links: dict[int, bytes] = {}

    @property
    def head(self) -> str:
        """The digest of the newest batch, in hexadecimal digits: whoever knows it can tell the chain from any other."""
        return self.links.get(self.last + 1, b"").hex()


class Audit:
    """Give it the messages of a log, the oldest first; then ask."""

    def __init__(self) -> None:
        self.messages = 0
        self.first = 0
        self.last = 0
        self.instances: dict[str, Instance] = {}
        self.counts: dict[Kind, int] = {}
        self._findings: list[Finding] = []

    def add(self, sequence: int, payload: bytes) -> None:
        """The message at a sequence of the stream."""
        self.first = self.first or sequence
        if self.messages and sequence != self.last + 1:
            self._find("hole", sequence, "", f"messages {self.last + 1} to {sequence - 1} are not in the stream")
        self.messages += 1
        self.last = sequence
        try:
            batch = codec.decode(payload).batch
        except msgspec.MsgspecError as error:
            self._find("unreadable", sequence, "", f"message {sequence} is no batch: {error}")
            return
        self._check(sequence, batch, payload)

    def findings(self) -> list[Finding]:
        """What is wrong; of each kind, the first ones."""
        gaps = [self._gap(one, *span) for one in self.instances.values() for span in self._missing(one)]
        self.counts["gap"] = len(gaps)
        return self._findings + gaps[:MOST]

    def _check(self, sequence: int, batch: Batch, payload: bytes) -> None:
        instance = self.instances.get(batch.instance)
        if instance is None:
            number = batch.sequence
            instance = Instance(batch.service, batch.host, batch.instance, number, number - 1, bool(batch.previous))
            self.instances[batch.instance] = instance
        if not _is_new(instance, batch.sequence):
            instance.repeated += 1
            self._find("repeat", sequence, instance.id, f"batch {batch.sequence} of {_name(instance)} is there again")
            return
        instance.batches += 1
        instance.dropped += sum(event.count for event in batch.events if isinstance(event, EventsDropped))
        if not chain.fits(instance.links, batch, payload):
            instance.altered += 1
            text = f"batch {batch.sequence} of {_name(instance)}, at {sequence}, or one beside it was altered"
            self._find("altered", sequence, instance.id, text)

    def _missing(self, instance: Instance) -> list[tuple[int, int]]:
        """What left the log at its old end, as it should, is not missing."""
        is_beheaded = instance.first > 1 and self.first == 1
        return [(1, instance.first - 1), *instance.missing] if is_beheaded else instance.missing

    def _gap(self, instance: Instance, start: int, end: int) -> Finding:
        batches = f"batch {start}" if start == end else f"batches {start} to {end}"
        told = f"; it said that {instance.dropped} events were dropped" if instance.dropped else ""
        return Finding("gap", 0, instance.id, f"{batches} of {_name(instance)} not there{told}")

    def _find(self, kind: Kind, sequence: int, instance: str, text: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MOST:
            self._findings.append(Finding(kind, sequence, instance, text))


def _is_new(instance: Instance, sequence: int) -> bool:
    """Whether a batch was not there before; keeps account of what is missing."""
    if sequence > instance.last:
        if sequence > instance.last + 1:
            instance.missing = [*instance.missing, (instance.last + 1, sequence - 1)]
        instance.last = sequence
        return True
    if sequence < instance.first:
        if sequence < instance.first - 1:
            instance.missing = [(sequence + 1, instance.first - 1), *instance.missing]
        instance.first = sequence
        return True
    return _fill(instance, sequence)


def _fill(instance: Instance, sequence: int) -> bool:
    for start, end in instance.missing:
        if start <= sequence <= end:
            rest = [(start, sequence - 1), (sequence + 1, end)]
            others = [span for span in instance.missing if span != (start, end)]
            instance.missing = sorted([*others, *(span for span in rest if span[0] <= span[1])])
            return True
    return False


def _name(instance: Instance) -> str:
    return f"{instance.service} on {instance.host} ({instance.id})"
