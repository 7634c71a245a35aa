"""The port of an application as its connections see it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from schemas.events import Event
from services.proxy.messages import Limits
from services.proxy.worker.admission import Admission
from services.proxy.worker.balancer import Dial, Session, Target
from services.proxy.worker.loop import Loop
from services.proxy.worker.relay.pipes import Pipes


class Held(Session, Protocol):
    """A client that waits for a backend."""

    def dial_again(self) -> None:
        """Start a new round of dials."""


class Port(Protocol):
    """What a connection needs of its frontend. It keeps connections from importing the frontend, which makes them."""

    port: int
    loop: Loop
    limits: Limits
    admission: Admission
    pipes: Pipes

    def record(self, event: Event) -> None:
        """Record an event about the application."""

    def pick(self, tried: Collection[tuple[str, int]]) -> Target | None:
        """Return the backend to dial next, None when each that is ready was `tried` in its present admission."""

    def hold(self, session: Held) -> None:
        """Have a client wait for a backend."""

    def release(self, session: Held) -> None:
        """Have a client wait no longer."""

    def answered(self, dial: Dial, now: float) -> None:
        """Note that a dial succeeded at `now` (monotonic)."""

    def dial_failed(self, dial: Dial, reason: str) -> None:
        """Skip a backend whose dial failed."""

    def dial_blocked(self, dial: Dial, problem: int) -> None:
        """Skip, for a moment, a backend that this host does not let us dial; `problem` is the errno."""

    def leave(self, target: Target, session: Session) -> None:
        """Note that a session has left its backend."""
