"""Connection traces: when what happened to a sampled connection, recorded at its end."""

from __future__ import annotations

import time

from schemas.events import ConnectionTraced

_SPREAD = 2654435761  # Knuth's multiplicative hash: neighbours fall far from each other
_RANGE = 1 << 32


def is_sampled(connection: int, share: float) -> bool:
    """Return whether this connection is among the share of all (0 to 1) that is traced."""
    return share > 0 and connection * _SPREAD % _RANGE < share * _RANGE


def unanswered(connection: int, port: int, age: float, held: float, attempts: int, reason: str) -> ConnectionTraced:
    """Return the trace of a sampled connection that ended before it had a backend."""
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


class Trace:
    """The times of a sampled connection, in seconds since the client was accepted; -1: not yet."""

    __slots__ = ("accepted_at", "attempts", "established", "first_byte", "held", "latency")

    def __init__(self, accepted_at: float, latency: float, attempts: int, held: float) -> None:
        """Start with a connection that was just established. `latency`: of its last dial."""
        self.accepted_at, self.latency, self.attempts, self.held = accepted_at, latency, attempts, held
        self.established = self._age()
        self.first_byte = -1.0

    def note_first_byte(self) -> None:
        """Note when the client got the first byte of the answer; later calls change nothing."""
        if self.first_byte < 0:
            self.first_byte = self._age()

    def event(
        self, connection: int, port: int, backend: str, received: int, sent: int, reason: str
    ) -> ConnectionTraced:
        """Return the trace of a connection that ends now."""
        return ConnectionTraced(
            time.time(),
            connection,
            port,
            backend=backend,
            duration=self._age(),
            held=self.held,
            latency=self.latency,
            attempts=self.attempts,
            established=self.established,
            first_byte=self.first_byte,
            bytes_in=received,
            bytes_out=sent,
            reason=reason,
        )

    def _age(self) -> float:
        return time.monotonic() - self.accepted_at
