"""A process that publishes events."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from services.metrics_gateway.state.histogram import EVENT_LAG, Histogram
from services.metrics_gateway.state.port import Listener

MISSED = "heartbeat missed"
"""Why an instance is taken to be over that was not heard for long; unlike any other end, its next word undoes it."""


class Heartbeat(msgspec.Struct, frozen=True):
    """How an instance was at `time`: resident bytes, CPU seconds since its start, delay of its event loop.

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
        """CPU time."""
        return int(self.cpu * 1e9)


class Instance(msgspec.Struct):
    """One process that publishes events, and how far its sequence is applied.

    `born` numbers the instances as they appear in the log. `missing` holds the batches below `last` that may still
    come; while there are any, `positions` tells which batch spoke last about what, so that a late one changes nothing
    that a later one has decided. `ended` is the reason why it is over, None while it runs; `silent` says that its own
    last word was heard. `heard` is when it last spoke, on the clock of the state. `links` are the ends of its chain
    (`schemas.chain`). `abandoned` counts batches that are not waited for any more. `leap`, while some
    are missing after a batch that was further than the horizon: the last one before it, and `abandoned` as it was.
    Batches before `first` may have left the log before it was read: they are not missed.
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
        """How many of these batches are missed if they do not come."""
        return len(sequences) if self.first <= 1 else sum(sequence >= self.first for sequence in sequences)


class Service(msgspec.Struct):
    """All instances of a kind together. `lag`: from the newest event of a batch to its place in the log."""

    lag: Histogram = msgspec.field(default_factory=lambda: Histogram.over(EVENT_LAG))
