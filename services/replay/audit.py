"""The audit of a log: every batch of every instance is there, as it was sealed. No I/O, no clock."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas import chain, codec, subjects
from schemas.codec import Batch
from schemas.events import EventsDropped, ServiceStarted
from services.common.jetstream.record import Record
from services.metrics_gateway.fold.ages import is_older, may_have_left
from services.replay.heads import Head, Heads
from services.replay.log.dedup import Digests, Ranges

Kind = Literal["gap", "altered", "misplaced", "unchained", "orphan", "removed", "added", "hole", "unreadable"]
MOST = 100
"""Findings of a kind that are listed one by one."""


class Finding(msgspec.Struct, frozen=True):
    """A fault of the log at a sequence of the stream (0: at no particular one)."""

    kind: Kind
    sequence: int
    instance: str
    text: str


class Instance:
    """The batches of one process: `first` and `last` are their lowest and highest numbers.

    `sequence` and `time` are the position of the last one in the log, `appeared` that of the message that was read
    first. `began`: when the log began, if earlier batches of the process may have left it; else 0.
    """

    def __init__(self, batch: Batch, record: Record, began: float) -> None:
        self.service, self.host, self.id = batch.service, batch.host, batch.instance
        self.is_chained = bool(batch.previous)
        self.appeared = record.sequence, record.time
        self.began = began
        self.is_beheaded = may_have_left(batch, record.time, began)
        self.parent = ""
        self.batches = self.repeated = self.altered = self.dropped = self.sequence = 0
        self.time = 0.0
        self.links: dict[int, bytes] = {}
        self.numbers = Ranges()
        self.digests = Digests()

    @property
    def first(self) -> int:
        """The lowest batch number."""
        return self.numbers.first

    @property
    def last(self) -> int:
        """The highest batch number."""
        return self.numbers.last

    @property
    def head(self) -> str:
        """The digest of the newest batch, in hexadecimal digits: it distinguishes this chain from any other."""
        return self.links.get(self.last + 1, b"").hex()

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Ranges of missing batches, both ends included; not those that left the log at its old end."""
        gaps = self.numbers.gaps()
        return gaps if self.first <= 1 or self.is_beheaded else [(1, self.first - 1), *gaps]

    def __str__(self) -> str:
        return f"{self.service} on {self.host} ({self.id})"


class Audit:
    """An audit. Add the messages of a log, oldest first; then ask for the findings.

    `repeats` are batches that are there again unchanged, which is not a fault. `counts` is the number of findings of
    each kind.
    """

    def __init__(self, heads: list[Head] | None = None) -> None:
        self.messages = 0
        self.first = 0
        self.last = 0
        self.instances: dict[str, Instance] = {}
        self.counts: dict[Kind, int] = {}
        self.repeats: list[str] = []
        self.repeated = 0
        self._began = 0.0
        self._lost = 0.0
        self._chained: set[tuple[str, str]] = set()
        self._findings: list[Finding] = []
        self._heads = Heads(heads) if heads is not None else None

    def add(self, record: Record) -> None:
        """Add the next message."""
        if not self.messages:
            self.first = record.sequence
            self._began = record.time if record.sequence > 1 else 0.0
        elif record.sequence != self.last + 1:
            self._find("hole", record.sequence, "", self._hole(record.sequence - 1))
        self.messages += 1
        self.last = record.sequence
        try:
            batch = codec.decode(record.payload).batch
        except msgspec.MsgspecError as error:
            self._find("unreadable", record.sequence, "", f"message {record.sequence} is not a batch: {error}")
            return
        self._check(record, batch)

    def end(self, last: int) -> None:
        """Note that the log reaches to this sequence."""
        if self.messages and last > self.last:
            self._find("hole", last, "", self._hole(last))
            self.last = last

    def findings(self) -> list[Finding]:
        """Return the faults, the first ones of each kind. Call this once, after the last message."""
        for instance in self.instances.values():
            for start, end in instance.missing:
                self._find("gap", 0, instance.id, _gap(instance, start, end))
            parent = instance.parent
            if parent and parent not in self.instances and not is_older(parent, instance.began):
                text = f"{instance} names {parent} as its parent, of which nothing is in the log"
                self._find("orphan", 0, instance.id, text)
        if self._heads:
            self._compare(self._heads)
        return self._findings

    def _check(self, record: Record, batch: Batch) -> None:
        instance = self.instances.get(batch.instance)
        if instance is None:
            instance = self._appeared(record, batch)
        if not subjects.fits(record.subject, batch.service, batch.host, batch.app):
            text = f"message {record.sequence} has the subject {record.subject} and is from {instance}"
            self._find("misplaced", record.sequence, instance.id, text)
        digest = chain.digest(record.payload)
        if not instance.numbers.add(batch.sequence):
            self._repeated(record, batch, instance, digest)
            return
        instance.digests.keep(batch.sequence, digest)
        instance.batches += 1
        if batch.sequence == instance.last:
            instance.sequence, instance.time = record.sequence, record.time
        for event in batch.events:
            if isinstance(event, EventsDropped):
                instance.dropped += event.count
            elif isinstance(event, ServiceStarted):
                instance.parent = event.parent
        if not chain.fits(instance.links, batch, record.payload):
            text = f"batch {batch.sequence} of {instance}, at {record.sequence}, or a neighbour was altered"
            self._alter(record, instance, text)
        if self._heads and not self._heads.fits(batch.instance, batch.sequence, digest.hex()):
            text = f"batch {batch.sequence} of {instance}, at {record.sequence}, differs from that in the list"
            self._alter(record, instance, text)

    def _appeared(self, record: Record, batch: Batch) -> Instance:
        self._lost = max(self._lost, self._began, record.began)
        instance = Instance(batch, record, max(self._began, record.began))
        self.instances[batch.instance] = instance
        owner = instance.service, instance.host
        if instance.is_chained:
            self._chained.add(owner)
        elif owner in self._chained:
            text = f"{instance} has no chain, but an earlier process of the same service and host had"
            self._find("unchained", record.sequence, instance.id, text)
        return instance

    def _repeated(self, record: Record, batch: Batch, instance: Instance, digest: bytes) -> None:
        text = f"batch {batch.sequence} of {instance} is there again, at {record.sequence}"
        if not instance.digests.has(batch.sequence, digest):
            self._alter(record, instance, f"{text}, with different content")
            return
        instance.repeated += 1
        self.repeated += 1
        if self.repeated <= MOST:
            self.repeats.append(text)

    def _alter(self, record: Record, instance: Instance, text: str) -> None:
        instance.altered += 1
        self._find("altered", record.sequence, instance.id, text)

    def _compare(self, heads: Heads) -> None:
        """Find differences from the list. A process whose last message is older than the log may have left it."""
        for head in heads.unmet():
            name = f"{head.service} on {head.host} ({head.id})"
            instance = self.instances.get(head.id)
            if instance is None and head.time >= self._lost:
                self._find("removed", 0, head.id, f"nothing of {name} is in the log, but the list has it")
            elif instance and instance.last < head.last:
                text = f"{name} ends with batch {instance.last}, but the list has batch {head.last}"
                self._find("removed", 0, head.id, text)
        for instance in self.instances.values():
            if not heads.is_new(instance.id, *instance.appeared):
                text = f"{instance} is in the log from {instance.appeared[0]} on, but the later list does not have it"
                self._find("added", instance.appeared[0], instance.id, text)

    def _hole(self, end: int) -> str:
        return f"messages {self.last + 1} to {end} are not in the stream"

    def _find(self, kind: Kind, sequence: int, instance: str, text: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= MOST:
            self._findings.append(Finding(kind, sequence, instance, text))


def _gap(instance: Instance, start: int, end: int) -> str:
    batches = f"batch {start}" if start == end else f"batches {start} to {end}"
    reported = f"; it reported {instance.dropped} dropped events" if instance.dropped else ""
    return f"{batches} of {instance} missing{reported}"
