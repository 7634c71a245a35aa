"""A proxy port and its backends, with their counts."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import msgspec

from services.metrics_gateway.state.histogram import CONNECT_LATENCY, CONNECTION_DURATION, HOLD_DURATION, Histogram

REFUSALS = ("no_backend", "dial_failed")
CLOSINGS = ("eof", "client_reset", "backend_reset", "client_gone", "idle", "drained", "shutdown")
DIAL_FAILURES = ("refused", "timeout", "reset", "unreachable")
MANY = 1000
"""Backends of a port at which the next expiry is due at once, to bound the memory."""

OTHER = "other"
"""The label for a reason that this version does not know. Labels come from closed sets."""

Open: TypeAlias = tuple[int, int, str]
"""An open connection: bytes so far from and to the client, and its backend, empty before one has answered."""

NEW: Open = (0, 0, "")


class Backend(msgspec.Struct):
    """The counts of one backend of a port. `seen`: when something last happened with it, on the clock of the state."""

    connections: int = 0
    latency: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECT_LATENCY))
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(DIAL_FAILURES, 0))
    ejections: int = 0
    seen: float = 0.0


class Port(msgspec.Struct):
    """The totals of one proxy port, over all instances that ever served it.

    `refused` and `closed` count ended connections by reason, `cut` those that were closed at the end of a drain.
    `owner` is the newest instance that opened the port. `is_closed`: the owner has closed it, and no other instance has
    opened it.
    """

    connections: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    closed: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(CLOSINGS, 0))
    cut: int = 0
    duration: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECTION_DURATION))
    latency: Histogram = msgspec.field(default_factory=lambda: Histogram.over(CONNECT_LATENCY))
    hold: Histogram = msgspec.field(default_factory=lambda: Histogram.over(HOLD_DURATION))
    backends: dict[str, Backend] = {}
    owner: str = msgspec.field(default="", name="keeper")
    is_closed: bool = False

    @property
    def bytes(self) -> int:
        """The bytes of both directions."""
        return self.bytes_in + self.bytes_out

    @property
    def errors(self) -> int:
        """The connections that found no backend."""
        return sum(self.refused.values())


class Listener(msgspec.Struct):
    """A port of one proxy instance.

    `address` is empty while the instance does not listen. `open` holds each open connection, `closed` those that ended
    while an earlier batch was missing. `backends` maps the backends that take new connections to their addresses.
    `carried` counts the open connections of each backend, so that a scrape does not walk through all of them.
    """

    address: str = ""
    open: dict[int, Open] = {}
    closed: set[int] = set()
    backends: dict[str, str] = {}
    carried: dict[str, int] = {}

    def carry(self, backend: str) -> None:
        """Count one more open connection at a backend."""
        self.carried[backend] = self.carried.get(backend, 0) + 1

    def release(self, backend: str) -> None:
        """Count one open connection less at a backend."""
        left = self.carried.get(backend, 0) - 1
        if left > 0:
            self.carried[backend] = left
        else:
            self.carried.pop(backend, None)

    def recount(self) -> None:
        """Set `carried` from the open connections, which come from a snapshot."""
        self.carried = dict(Counter(backend for _, _, backend in self.open.values() if backend))


def count(reasons: dict[str, int], reason: str) -> None:
    """Add one for a reason of the closed set that `reasons` begins with, or for OTHER."""
    known = reason if reason in reasons else OTHER
    reasons[known] = reasons.get(known, 0) + 1
