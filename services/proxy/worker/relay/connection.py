"""An open connection: the sockets of a client and a backend, and the events about them."""

from __future__ import annotations

import socket
import time

from schemas.events import ConnectionClosed, ConnectionEstablished, ConnectionProgressed
from services.proxy.worker.balancer import Target
from services.proxy.worker.loop import OUT
from services.proxy.worker.relay.endpoint import READING, Endpoint
from services.proxy.worker.relay.port import Port
from services.proxy.worker.relay.traced import Trace
from services.proxy.worker.timers import Timed

PROGRESS_INTERVAL = 2.0
"""Seconds between two reports of the bytes of a connection while bytes move."""


class Connection:
    """Ends when both directions have ended, when a side resets it, or when it is cut or idle too long.

    Its timer fires every two seconds while bytes move, else when the connection may have been idle too long.
    """

    __slots__ = (
        "accepted_at",
        "active_at",
        "backend",
        "client",
        "id",
        "is_open",
        "is_quiet",
        "loop",
        "port",
        "reported",
        "reported_at",
        "slot",
        "target",
        "trace",
    )

    def __init__(
        self,
        port: Port,
        number: int,
        accepted_at: float,
        target: Target,
        client: socket.socket,
        backend: socket.socket,
        trace: Trace | None,
    ) -> None:
        """`trace`: set if the connection is sampled; its event is recorded at the end."""
        self.port = port
        self.loop = loop = port.loop
        self.id = number
        self.accepted_at = accepted_at
        self.target = target
        self.trace = trace
        self.client = Endpoint(self, loop, port.pipes, client, is_prompt=True)  # as its listener is
        self.backend = Endpoint(self, loop, port.pipes, backend, is_prompt=False)
        self.slot: set[Timed] | None = None
        self.is_open = True
        self.is_quiet = False
        self.active_at = loop.now
        self.reported_at = accepted_at
        self.reported = 0

    def open(self, latency: float, attempts: int, held: float, events: int | None) -> None:
        """Join the two sides, after so many dials, the last of which took `latency` seconds.

        `events`: the epoll events of the backend's socket, if it is watched already; None: it is not.
        """
        self.target.sessions.add(self)
        self.port.record(
            ConnectionEstablished(
                time.time(),
                self.id,
                self.port.port,
                backend=self.target.id,
                latency=latency,
                attempts=attempts,
                held=held,
            )
        )
        self.client.peer, self.backend.peer = self.backend, self.client
        self._look_after()
        self.loop.watch(self.client.sock.fileno(), READING, self.client.on_ready)
        if events is None:
            self.loop.watch(self.backend.sock.fileno(), READING, self.backend.on_ready)
        else:
            self.backend.awaits_room = True
            self.loop.hand_over(self.backend.sock.fileno(), self.backend.on_ready)
            self.backend.on_ready(events & ~OUT)
        if self.is_open:
            self.client.receive()  # a client that speaks first has usually sent its request by now

    def cut(self) -> bool:
        """Close the connection: its backend is gone from the route, the drain time over."""
        self._cut("drained")
        return True

    def moved(self) -> None:
        """Keep the connection: it stays at the old address."""

    def shut_down(self) -> None:
        """Close the connection: the proxy stops."""
        self._cut("shutdown")

    def on_traffic(self) -> None:
        """Note that bytes moved, or that a direction ended."""
        self.active_at = self.loop.now
        if self.trace and self.backend.delivered:
            self.trace.note_first_byte()
        if self.is_quiet:
            self.is_quiet = False
            self._look_after()

    def on_timer(self) -> None:
        """Close an idle connection, or report its progress."""
        idle_timeout = self.port.limits.idle_timeout
        if idle_timeout and self.loop.now - self.active_at >= idle_timeout:
            self._close("idle")
            return
        if self.loop.now - self.reported_at >= PROGRESS_INTERVAL:
            self._report_progress()
        self._look_after()

    def reset_by(self, endpoint: Endpoint) -> None:
        """Reset the other side too, and end the connection."""
        endpoint.peer.abort()
        self._end("client_reset" if endpoint is self.client else "backend_reset")

    def finish(self) -> None:
        """End the connection, both directions of which have ended."""
        self._end("eof")

    def _cut(self, reason: str) -> None:
        """Reset both sides if bytes are in flight, so that no reader takes a part for the whole; else just end."""
        if self.client.is_busy or self.backend.is_busy:
            self._abort()
        self._close(reason)

    def _close(self, reason: str) -> None:
        if self.client.has_undelivered or self.backend.has_undelivered:
            self._abort()
        self._end(reason)

    def _abort(self) -> None:
        self.client.abort()
        self.backend.abort()

    def _report_progress(self) -> None:
        received, sent = self.client.delivered, self.backend.delivered
        if received + sent == self.reported:
            self.is_quiet = True
            return
        self.reported, self.reported_at = received + sent, self.loop.now
        self.port.record(ConnectionProgressed(time.time(), self.id, self.port.port, bytes_in=received, bytes_out=sent))

    def _look_after(self) -> None:
        """Set the timer to when there may be progress to report, or the connection may be idle."""
        idle_timeout = self.port.limits.idle_timeout
        idle_in = self.active_at + idle_timeout - self.loop.now
        if not self.is_quiet:
            self.loop.set_timer(self, min(PROGRESS_INTERVAL, idle_in) if idle_timeout else PROGRESS_INTERVAL)
        elif idle_timeout:
            self.loop.set_timer(self, idle_in)

    def _end(self, reason: str) -> None:
        self.is_open = False
        self.loop.clear_timer(self)
        self.client.close()
        self.backend.close()
        self.port.leave(self.target, self)
        self.port.admission.leave(self)
        received, sent = self.client.delivered, self.backend.delivered
        self.port.record(
            ConnectionClosed(
                time.time(),
                self.id,
                self.port.port,
                backend=self.target.id,
                bytes_in=received,
                bytes_out=sent,
                duration=self.loop.now - self.accepted_at,
                reason=reason,
            )
        )
        if self.trace:
            self.port.record(self.trace.event(self.id, self.port.port, self.target.id, received, sent, reason))
