"""A sampled connection: like any other, and at its end it says when what happened."""

from __future__ import annotations

import time

from schemas.events import ConnectionTraced
from services.proxy.worker.relay.connection import Connection

_SPREAD = 2654435761  # Knuth's multiplicative hash: neighbours fall far from each other
_RANGE = 1 << 32


def is_sampled(connection: int, share: float) -> bool:
    """Whether this connection is among the share of all (0 to 1) that is traced."""
    return share > 0 and connection * _SPREAD % _RANGE < share * _RANGE


def unanswered(connection: int, port: int, age: float, held: float, attempts: int, reason: str) -> ConnectionTraced:
    """What is told of a sampled connection that ended before it had a backend."""
    return ConnectionTraced(
        time.time(),
        connection,
        port,
        backend="",
        duration=age,
        held=held,
        latency=0.0,
        attempts=attempts,
        established=-1.0,
        first_byte=-1.0,
        bytes_in=0,
        bytes_out=0,
        reason=reason,
    )


class TracedConnection(Connection):
    """Times are seconds since the client was accepted."""

    __slots__ = ("attempts", "established", "first_byte", "held", "latency")

    def open(self, latency: float, attempts: int, held: float, events: int | None) -> None:
        self.latency, self.attempts, self.held = latency, attempts, held
        self.established = time.monotonic() - self.accepted_at
        self.first_byte = -1.0
        super().open(latency, attempts, held, events)

    def on_traffic(self) -> None:
        if self.first_byte < 0 and self.backend.delivered:
            self.first_byte = time.monotonic() - self.accepted_at
        super().on_traffic()

    def _end(self, reason: str) -> None:
        super()._end(reason)
        self.frontend.record(
            ConnectionTraced(
                time.time(),
                self.id,
                self.frontend.port,
                backend=self.target.id,
                duration=time.monotonic() - self.accepted_at,
                held=self.held,
                latency=self.latency,
                attempts=self.attempts,
                established=self.established,
                first_byte=self.first_byte,
                bytes_in=self.client.delivered,
                bytes_out=self.backend.delivered,
                reason=reason,
            )
        )
