"""A client that has no backend yet: a dial is under way, or it is held until a backend may answer."""

from __future__ import annotations

import errno
import socket
import time
from typing import Literal

from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionRefused, DialFailed
from services.proxy.worker.balancer import Dial
from services.proxy.worker.loop import ERR, HUP, OUT, RDHUP
from services.proxy.worker.relay import dialing
from services.proxy.worker.relay.connection import Connection
from services.proxy.worker.relay.endpoint import READING
from services.proxy.worker.relay.port import Port
from services.proxy.worker.relay.traced import Trace, is_sampled, unanswered
from services.proxy.worker.timers import Timed

State = Literal["dialing", "held", "held_for_room"]
"""Where a pending connection is.

"dialing": it dials a backend; while `dial` is set, that dial is under way on the socket `outgoing`.
"held": no backend is left to dial; the client is refused at `deadline`.
"held_for_room": this process has no room for another socket; the client waits without a limit, as clients in the
kernel's queue do.
"""


class PendingConnection:
    """Dials one backend after the other, each at most once in a round, and is held when none is left."""

    __slots__ = (
        "accepted_at",
        "deadline",
        "dial",
        "failures",
        "held",
        "held_at",
        "id",
        "loop",
        "outgoing",
        "port",
        "slot",
        "sock",
        "state",
        "tried",
    )

    outgoing: socket.socket

    def __init__(self, port: Port, number: int, sock: socket.socket) -> None:
        self.port = port
        self.loop = port.loop
        self.id = number
        self.sock = sock
        self.slot: set[Timed] | None = None
        self.state: State = "dialing"
        self.dial: Dial | None = None
        self.accepted_at = self.loop.now
        self.deadline = self.accepted_at + port.limits.hold
        self.held = 0.0
        self.held_at = 0.0
        self.failures = 0
        self.tried: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Record the client, and dial."""
        self.port.record(ConnectionAccepted(time.time(), self.id, self.port.port))
        self._dial()

    def dial_again(self) -> None:
        """Start a new round of dials, for a client that is held."""
        self._release()
        self.loop.clear_timer(self)
        self.tried.clear()
        self._dial()

    def cut(self) -> bool:
        """Dial another backend: the one that is being dialed is gone from the route."""
        self._drop_dial()
        self._dial()
        return False

    def moved(self) -> None:
        """Dial again: the old address may be another backend's by now."""
        self.cut()

    def shut_down(self) -> None:
        """Close the connection: the proxy stops."""
        self._close("shutdown")

    def on_timer(self) -> None:
        """Refuse a client that was held for long enough, or give up a dial that takes too long."""
        if self.dial:
            self._failed(self.dial, errno.ETIMEDOUT)
        else:
            self._refuse()

    # --- dialing ---------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        while (target := self.port.pick(self.tried)) is not None:
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
                self.port.admission.wait_for_room()
                self._hold("held_for_room")
                return
            self._note_failure(dial, problem, at_once=True)
        self._hold("held")

    def _await_answer(self, dial: Dial) -> None:
        self.dial = dial
        dial.target.sessions.add(self)
        self.loop.watch(self.outgoing.fileno(), READING | OUT, self._on_answer)
        self.loop.set_timer(self, self.port.limits.connect_timeout)

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
        """Replace this by an open connection."""
        now = time.monotonic()
        latency, attempts = now - dial.began, self.failures + 1
        self.port.answered(dial, now)
        trace = Trace(self.accepted_at, latency, attempts, self.held) if self._is_traced() else None
        connection = Connection(self.port, self.id, self.accepted_at, dial.target, self.sock, self.outgoing, trace)
        self.port.admission.replace(self, connection)
        connection.open(latency, attempts, self.held, events)

    def _failed(self, dial: Dial, problem: int) -> None:
        self._drop_dial()
        self._note_failure(dial, problem, at_once=False)
        self._dial()

    def _drop_dial(self) -> None:
        """End the dial that is under way, if there is one."""
        self.loop.clear_timer(self)
        if self.dial is not None:
            self.loop.close(self.outgoing)
            self.port.leave(self.dial.target, self)
            self.dial = None

    def _note_failure(self, dial: Dial, problem: int, at_once: bool) -> None:
        """Skip this backend in this round, and have others skip it where the failure says something about it."""
        self.tried.add((dial.target.id, dial.admission))
        fault = dialing.fault(problem, at_once)
        if not fault:
            self.port.dial_blocked(dial, problem)
            return
        self.failures += 1
        latency = time.monotonic() - dial.began
        self.port.record(
            DialFailed(time.time(), self.id, self.port.port, backend=dial.target.id, latency=latency, reason=fault)
        )
        self.port.dial_failed(dial, fault)

    # --- held ------------------------------------------------------------------------------------------------

    def _hold(self, state: Literal["held", "held_for_room"]) -> None:
        remaining = self.deadline - self.loop.now
        if state == "held" and remaining <= 0:
            self._refuse()
            return
        self.state = state
        self.held_at = self.loop.now
        self.port.hold(self)
        self.loop.watch(self.sock.fileno(), RDHUP, self._on_client)
        if state == "held":
            self.loop.set_timer(self, remaining)

    def _release(self) -> None:
        """Count the time for which it was held. A wait for room is not part of the hold time."""
        self.port.release(self)
        waited = self.loop.now - self.held_at
        self.held += waited
        if self.state == "held_for_room":
            self.deadline += waited
        self.state = "dialing"

    def _on_client(self, events: int) -> None:
        """Close for a client that left: it ends its stream and has sent nothing. One that sent may await the reply."""
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
        self.port.record(ConnectionRefused(time.time(), self.id, self.port.port, reason=reason, duration=age))
        self._end(reason, age)

    def _close(self, reason: str) -> None:
        age = self.loop.now - self.accepted_at
        self.port.record(
            ConnectionClosed(
                time.time(),
                self.id,
                self.port.port,
                backend="",
                bytes_in=0,
                bytes_out=0,
                duration=age,
                reason=reason,
            )
        )
        self._end(reason, age)

    def _is_traced(self) -> bool:
        return is_sampled(self.id, self.port.limits.trace_connections)

    def _end(self, reason: str, age: float) -> None:
        self._drop_dial()
        if self.state != "dialing":
            self._release()
        if self._is_traced():
            self.port.record(unanswered(self.id, self.port.port, age, self.held, self.failures, reason))
        dialing.reset_on_close(self.sock)
        self.loop.close(self.sock)
        self.port.admission.leave(self)
