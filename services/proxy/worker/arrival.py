"""A client that has no backend yet: a dial is under way, or it is held until a backend may answer."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionRefused, DialFailed
from services.proxy.worker import dialing
from services.proxy.worker.balancer import Target
from services.proxy.worker.connection import Connection
from services.proxy.worker.loop import ERR, HUP, OUT, RDHUP
from services.proxy.worker.timers import Timed
from services.proxy.worker.traced import TracedConnection, is_sampled, unanswered

if TYPE_CHECKING:
    from services.proxy.worker.frontend import Frontend


class Arrival:
    """Dials one backend after the other, each at most once in a round, and waits when none is left.

    It is held, if `target` is None, for at most the hold time since its accept; then it is refused.
    """

    __slots__ = (
        "accepted_at",
        "attempts",
        "dialed_at",
        "frontend",
        "held",
        "held_at",
        "id",
        "loop",
        "outgoing",
        "slot",
        "sock",
        "target",
        "tried",
    )

    dialed_at: float
    held_at: float
    outgoing: socket.socket

    def __init__(self, frontend: Frontend, number: int, sock: socket.socket) -> None:
        self.frontend = frontend
        self.loop = frontend.resources.loop
        self.id = number
        self.sock = sock
        self.slot: set[Timed] | None = None
        self.target: Target | None = None
        self.accepted_at = self.loop.now
        self.held = 0.0
        self.attempts = 0
        self.tried: set[str] = set()

    def start(self) -> None:
        self.frontend.record(ConnectionAccepted(time.time(), self.id, self.frontend.port))
        self._dial()

    def dial_again(self) -> None:
        """A new round, for a client that is held."""
        del self.frontend.held[self]
        self.held += self.loop.now - self.held_at
        self.tried.clear()
        self._dial()

    def cut(self) -> bool:
        """The backend that is being dialed is gone from the route: try another."""
        self._drop_dial()
        self._dial()
        return False

    def shut_down(self) -> None:
        self._close("shutdown")

    def on_timer(self) -> None:
        if self.target is None:
            self._refuse()
        else:
            self._give_up(self.target, "timeout")

    # --- dialing ---------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        while (target := self.frontend.balancer.pick(self.tried)) is not None:
            self.dialed_at = time.monotonic()
            sock, problem = dialing.dial(target.address)
            if problem in dialing.EXHAUSTED:
                self.frontend.resources.admission.pause()
                break
            self.attempts += 1
            if sock is not None:
                self._await_answer(target, sock)
                return
            self._dial_failed(target, dialing.reason(problem))
        self._hold()

    def _await_answer(self, target: Target, sock: socket.socket) -> None:
        self.target = target
        self.outgoing = sock
        target.occupants.add(self)
        self.loop.watch(sock.fileno(), OUT, self._on_answer)
        self.loop.set_timer(self, self.frontend.resources.limits.connect_timeout)

    def _on_answer(self, events: int) -> None:
        problem = self.outgoing.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & (ERR | HUP) else 0
        assert self.target
        if problem:
            self._give_up(self.target, dialing.reason(problem))
        else:
            self._hand_over(self.target)

    def _hand_over(self, target: Target) -> None:
        self.loop.clear_timer(self)
        latency = time.monotonic() - self.dialed_at
        target.occupants.discard(self)
        self.frontend.resources.admission.occupants.discard(self)
        kind = TracedConnection if self._is_traced() else Connection
        kind(self.frontend, self.id, self.accepted_at, target, self.sock, self.outgoing).open(
            latency, self.attempts, self.held
        )

    def _give_up(self, target: Target, reason: str) -> None:
        self._drop_dial()
        self._dial_failed(target, reason)
        self._dial()

    def _drop_dial(self) -> None:
        """End the dial that is under way, if there is one."""
        self.loop.clear_timer(self)
        if self.target is not None:
            self.loop.close(self.outgoing)
            self.frontend.leave(self.target, self)
            self.target = None

    def _dial_failed(self, target: Target, reason: str) -> None:
        self.tried.add(target.id)
        latency = time.monotonic() - self.dialed_at
        self.frontend.record(DialFailed(time.time(), self.id, self.frontend.port, target.id, latency, reason))
        self.frontend.dial_failed(target, reason)

    # --- held ------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        self.held_at = self.loop.now
        remaining = self.accepted_at + self.frontend.resources.limits.hold - self.loop.now
        if remaining <= 0:
            self._refuse()
            return
        self.frontend.held[self] = None
        self.loop.watch(self.sock.fileno(), RDHUP, self._on_client)
        self.loop.set_timer(self, remaining)

    def _on_client(self, events: int) -> None:
        """A client that ends its stream without having sent anything has left; else it may await the reply."""
        if events & (ERR | HUP) or not self._has_sent():
            self._close("client_gone")
        else:
            self.loop.watch(self.sock.fileno(), 0, self._on_client)

    def _has_sent(self) -> bool:
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    # --- the end ---------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        reason = "dial_failed" if self.attempts else "no_backend"
        age = self.loop.now - self.accepted_at
        self.frontend.record(ConnectionRefused(time.time(), self.id, self.frontend.port, reason, age))
        self._end(reason, age)

    def _close(self, reason: str) -> None:
        age = self.loop.now - self.accepted_at
        self.frontend.record(ConnectionClosed(time.time(), self.id, self.frontend.port, "", 0, 0, age, reason))
        self._end(reason, age)

    def _is_traced(self) -> bool:
        return is_sampled(self.id, self.frontend.resources.limits.trace_connections)

    def _end(self, reason: str, age: float) -> None:
        self._drop_dial()
        if self in self.frontend.held:
            del self.frontend.held[self]
            self.held += self.loop.now - self.held_at
        if self._is_traced():
            self.frontend.record(unanswered(self.id, self.frontend.port, age, self.held, self.attempts, reason))
        dialing.reset_on_close(self.sock)
        self.loop.close(self.sock)
        self.frontend.resources.admission.leave(self)
