"""A process that publishes events."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from services.metrics_gateway.state.histogram import EVENT_LAG, Histogram
from services.metrics_gateway.state.port import Listener

MISSED = "heartbeat missed"
"""The reason of the end of an instance that was silent for long. Unlike any other end, its next message undoes this."""


class Heartbeat(msgspec.Struct, frozen=True):
    """The facts that an instance published at `time`: resident bytes, CPU seconds since its start, event loop delay.

    `spool_batches` and `spool_bytes` wait for the bus.
    """

    time: float
    rss: int
    cpu: float
    loop_lag: float
    spool_batches: int = 0
    spool_bytes: int = 0

    @property
    def nanoseconds(self) -> int:
        """The CPU time."""
        return int(self.cpu * 1e9)


class Instance(msgspec.Struct):
    """A process that publishes events, and how far its sequence is applied.

    `ordinal` numbers the instances as they appear in the log. `missing` holds the batches below `last` that may still
    come; while there are any, `positions` holds the last batch that decided each part of the state, so that a late
    batch does not overrule a later one. `ended` is the reason for its end, None while it runs; `stop_reported`: the
    instance itself reported its stop. `heard` is when its last message came, on the clock of the state. `links` are the
    ends of its chain (`schemas.chain`). `abandoned` counts batches that the fold no longer waits for. `leap`, while
    some are missing after a batch beyond the horizon: the last batch before it, and `abandoned` as it was. Batches
    before `first` may have left the log before it was read: they are not missing.
    """

    id: str
    service: str
    host: str
    ordinal: int = msgspec.field(name="born")
    last: int = 0
    missing: set[int] = set()
    positions: dict[tuple[str, ...], int] = {}
    unit: str = ""
    version: str = ""
    pid: int = 0
    parent: str = ""
    started: float | None = None
    heartbeat: Heartbeat | None = None
    heard: float = 0.0
    ended: str | None = None
    stop_reported: bool = msgspec.field(default=False, name="silent")
    links: dict[int, bytes] = {}
    abandoned: int = 0
    leap: tuple[int, int] | None = None
    listeners: dict[tuple[str, int], Listener] = {}
    first: int = 1

    def missed(self, sequences: Collection[int]) -> int:
        """Return how many of these batches count as missing."""
        return len(sequences) if self.first <= 1 else sum(sequence >= self.first for sequence in sequences)


class Service(msgspec.Struct):
    """All instances of a service together. `lag`: from the newest event of a batch to its storage in the log."""

    lag: Histogram = msgspec.field(default_factory=lambda: Histogram.over(EVENT_LAG))
