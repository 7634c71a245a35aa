"""A client that has no backend yet: a dial is under way, or it is held until a backend may answer."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionRefused, DialFailed
from services.proxy.worker.balancer import Dial
from services.proxy.worker.loop import ERR, HUP, OUT, RDHUP
from services.proxy.worker.relay import dialing
from services.proxy.worker.relay.connection import Connection
from services.proxy.worker.relay.endpoint import READING
from services.proxy.worker.relay.traced import TracedConnection, is_sampled, unanswered
from services.proxy.worker.timers import Timed

if TYPE_CHECKING:
    from services.proxy.worker.frontend import Frontend


class PendingConnection:
    """Dials one backend after the other, each at most once in a round, and waits when none is left.

    It is held, if `dial` is None, until `deadline`; then it is refused. It waits without a limit while this process
    has no room for another socket (`lacks_room`), as clients in the kernel's queue do.
    """

    __slots__ = (
        "accepted_at",
        "deadline",
        "dial",
        "failures",
        "frontend",
        "held",
        "held_at",
        "id",
        "lacks_room",
        "loop",
        "outgoing",
        "slot",
        "sock",
        "tried",
    )

    held_at: float
    outgoing: socket.socket

    def __init__(self, frontend: Frontend, number: int, sock: socket.socket) -> None:
        self.frontend = frontend
        self.loop = frontend.resources.loop
        self.id = number
        self.sock = sock
        self.slot: set[Timed] | None = None
        self.dial: Dial | None = None
        self.accepted_at = self.loop.now
        self.deadline = self.accepted_at + frontend.resources.limits.hold
        self.held = 0.0
        self.lacks_room = False
        self.failures = 0
        self.tried: set[tuple[str, int]] = set()

    def start(self) -> None:
        self.frontend.record(ConnectionAccepted(time.time(), self.id, self.frontend.port))
        self._dial()

    def dial_again(self) -> None:
        """Begin a new round, for a client that is held."""
        self._leave_held()
        self.loop.clear_timer(self)
        self.tried.clear()
        self._dial()

    def cut(self) -> bool:
        """The backend that is being dialed is gone from the route: try another."""
        self._drop_dial()
        self._dial()
        return False

    def moved(self) -> None:
        """The old address may be another's by now."""
        self.cut()

    def shut_down(self) -> None:
        self._close("shutdown")

    def on_timer(self) -> None:
        if self.dial is None:
            self._refuse()
        else:
            self._failed(self.dial, errno.ETIMEDOUT)

    # --- dialing ---------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        while (target := self.frontend.balancer.pick(self.tried)) is not None:
            dial = Dial(target, target.address, target.admission, time.monotonic())
            sock, problem = dialing.dial(dial.address)
            if sock is not None:
                self.outgoing = sock
                if problem:
                    self._await_answer(dial)
                else:
                    self._hand_over(dial, None)
                return
            if problem in dialing.SHORTAGE:
                self.frontend.resources.admission.wait_for_room()
                self.lacks_room = True
                self._hold()
                return
            self._note_failure(dial, problem, at_once=True)
        self._hold()

    def _await_answer(self, dial: Dial) -> None:
        self.dial = dial
        dial.target.sessions.add(self)
        self.loop.watch(self.outgoing.fileno(), READING | OUT, self._on_answer)
        self.loop.set_timer(self, self.frontend.resources.limits.connect_timeout)

    def _on_answer(self, events: int) -> None:
        dial = self.dial
        assert dial
        problem = dialing.answer(self.outgoing, dial.address, bool(events & (ERR | HUP)))
        if problem:
            self._failed(dial, problem)
        else:
            self.loop.clear_timer(self)
            dial.target.sessions.discard(self)
            self._hand_over(dial, events)

    def _hand_over(self, dial: Dial, events: int | None) -> None:
        now = time.monotonic()
        self.frontend.resources.admission.sessions.discard(self)
        self.frontend.answered(dial, now)
        kind = TracedConnection if self._is_traced() else Connection
        kind(self.frontend, self.id, self.accepted_at, dial.target, self.sock, self.outgoing).open(
            now - dial.began, self.failures + 1, self.held, events
        )

    def _failed(self, dial: Dial, problem: int) -> None:
        self._drop_dial()
        self._note_failure(dial, problem, at_once=False)
        self._dial()

    def _drop_dial(self) -> None:
        """End the dial that is under way, if there is one."""
        self.loop.clear_timer(self)
        if self.dial is not None:
            self.loop.close(self.outgoing)
            self.frontend.leave(self.dial.target, self)
            self.dial = None

    def _note_failure(self, dial: Dial, problem: int, at_once: bool) -> None:
        """Skip this backend in this round, and what follows for others from how the dial failed."""
        self.tried.add((dial.target.id, dial.admission))
        fault = dialing.fault(problem, at_once)
        if not fault:
            self.frontend.dial_blocked(dial, problem)
            return
        self.failures += 1
        latency = time.monotonic() - dial.began
        self.frontend.record(
            DialFailed(time.time(), self.id, self.frontend.port, backend=dial.target.id, latency=latency, reason=fault)
        )
        self.frontend.dial_failed(dial, fault)

    # --- held ------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        self.held_at = self.loop.now
        remaining = self.deadline - self.loop.now
        if remaining <= 0 and not self.lacks_room:
            self._refuse()
            return
        self.frontend.hold(self)
        self.loop.watch(self.sock.fileno(), RDHUP, self._on_client)
        if not self.lacks_room:
            self.loop.set_timer(self, remaining)

    def _leave_held(self) -> None:
        """Count the time in which it was held. What it waited for room is not part of the hold time."""
        del self.frontend.held[self]
        waited = self.loop.now - self.held_at
        self.held += waited
        if self.lacks_room:
            self.lacks_room = False
            self.deadline += waited

    def _on_client(self, events: int) -> None:
        """A client that ends its stream without having sent anything has left; else it may await the reply."""
        if events & (ERR | HUP) or not self._has_sent():
            self._close("client_gone")
        else:
            self.loop.watch(self.sock.fileno(), 0, self._on_client)

    def _has_sent(self) -> bool:
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    # --- the end ---------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        reason = "dial_failed" if self.failures else "no_backend"
        age = self.loop.now - self.accepted_at
        self.frontend.record(ConnectionRefused(time.time(), self.id, self.frontend.port, reason=reason, duration=age))
        self._end(reason, age)

    def _close(self, reason: str) -> None:
        age = self.loop.now - self.accepted_at
        self.frontend.record(
            ConnectionClosed(
                time.time(),
                self.id,
                self.frontend.port,
                backend="",
                bytes_in=0,
                bytes_out=0,
                duration=age,
                reason=reason,
            )
        )
        self._end(reason, age)

    def _is_traced(self) -> bool:
        return is_sampled(self.id, self.frontend.resources.limits.trace_connections)

    def _end(self, reason: str, age: float) -> None:
        self._drop_dial()
        if self in self.frontend.held:
            self._leave_held()
        if self._is_traced():
            self.frontend.record(unanswered(self.id, self.frontend.port, age, self.held, self.failures, reason))
        dialing.reset_on_close(self.sock)
        self.loop.close(self.sock)
        self.frontend.resources.admission.leave(self)
