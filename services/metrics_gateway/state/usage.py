"""The resources that a replica uses."""

from __future__ import annotations

import msgspec

STARTS_KEPT = 8
"""Starts of a replica whose counts may still grow: messages about earlier ones are not so late."""


class Counts(msgspec.Struct):
    """Counts since one start of a replica: nanoseconds of CPU time, and bytes on the network."""

    cpu: int = 0
    received: int = 0
    sent: int = 0

    def grow(self, other: Counts) -> None:
        """Take the larger one of each count. A count falls only where a part of it could not be read."""
        self.cpu = max(self.cpu, other.cpu)
        self.received = max(self.received, other.received)
        self.sent = max(self.sent, other.sent)


class Usage(msgspec.Struct):
    """The resources of one replica, over all its starts.

    An engine that restarts a container counts from zero again. `starts` has the counts by the number of restarts
    before, so that samples may come in any order; `before` is the sum of earlier starts. Sizes are bytes, None if
    unknown; without a limit, `memory_limit` is None. `networked`: its bytes on the network are known.
    """

    memory: int | None = None
    memory_limit: int | None = None
    networked: bool = False
    starts: dict[int, Counts] = {}
    before: Counts = msgspec.field(default_factory=Counts)
    forgotten: int = 0

    @property
    def restarts(self) -> int:
        """How often its engine started it again."""
        return max(self.starts, default=0)

    @property
    def cpu(self) -> int:
        """Nanoseconds of CPU time."""
        return self.before.cpu + sum(one.cpu for one in self.starts.values())

    @property
    def received(self) -> int:
        """Bytes received from the network."""
        return self.before.received + sum(one.received for one in self.starts.values())

    @property
    def sent(self) -> int:
        """Bytes sent to the network."""
        return self.before.sent + sum(one.sent for one in self.starts.values())

    def add(self, restarts: int, counts: Counts) -> None:
        """Add the counts of a sample that was taken after so many restarts."""
        if restarts < self.forgotten:
            return
        self.starts.setdefault(restarts, Counts()).grow(counts)
        while len(self.starts) > STARTS_KEPT:
            oldest = min(self.starts)
            ended = self.starts.pop(oldest)
            self.before.cpu += ended.cpu
            self.before.received += ended.received
            self.before.sent += ended.sent
            self.forgotten = oldest + 1
