"""One socket of an open connection, and the bytes on their way from it to its peer."""

from __future__ import annotations

import contextlib
import fcntl
import math
import socket
import termios
from typing import Protocol

from services.proxy.worker.loop import EDGE, ERR, HUP, IN, OUT, PRI, RDHUP, READ_SIZE, Loop
from services.proxy.worker.relay.dialing import reset_on_close
from services.proxy.worker.relay.pipes import Pipe, Pipes

BULK = 16 << 10
BULK_PAUSE = 1.0
"""Seconds after a large read in which more of the same message is likely to come."""

READING = IN | PRI | RDHUP | EDGE
_MORE = PRI | RDHUP | HUP | ERR
"""What is behind the bytes that a read finds: an urgent byte, at which each read ends (tcp(7)), or the end."""

_NO_BYTES = bytes(4)


class Owner(Protocol):
    """The connection that an endpoint belongs to."""

    is_open: bool

    def on_traffic(self) -> None:
        """Note that bytes moved, or that a direction ended."""

    def reset_by(self, endpoint: Endpoint) -> None:
        """End the connection, which this side reset."""

    def finish(self) -> None:
        """End the connection, both directions of which have ended."""


class Endpoint:
    """Reads only as fast as its peer takes the bytes: at most one read, or one pipe full, waits in between.

    Small reads are copied through the loop's buffer; after a read of BULK bytes or more they are spliced through a
    pipe, until a read is small again. `delivered` counts the bytes read here that the peer's socket took.

    epoll reports that there is something to read once, when it comes (edge-triggered). `is_readable` remembers that
    until a read has found the socket empty, as one that is not filled has, unless epoll said that there `has_more`.
    The socket of a client may block, so every call says that it must not.
    """

    __slots__ = (
        "awaits_room",
        "bulk_at",
        "delivered",
        "ended",
        "has_more",
        "is_prompt",
        "is_queued",
        "is_readable",
        "loop",
        "owner",
        "peer",
        "pipe",
        "pipes",
        "sock",
        "unsent",
    )

    peer: Endpoint

    def __init__(self, owner: Owner, loop: Loop, pipes: Pipes, sock: socket.socket, is_prompt: bool) -> None:
        """`is_prompt`: small writes are not delayed until earlier ones are acknowledged (TCP_NODELAY)."""
        self.owner = owner
        self.loop = loop
        self.pipes = pipes
        self.sock = sock
        self.is_prompt = is_prompt
        self.is_readable = False
        self.has_more = False
        self.is_queued = False
        self.awaits_room = False
        self.bulk_at = -math.inf
        self.unsent = b""
        self.pipe: Pipe | None = None
        self.delivered = 0
        self.ended = False

    @property
    def has_undelivered(self) -> bool:
        return bool(self.unsent or (self.pipe and self.pipe.filled))

    @property
    def is_busy(self) -> bool:
        """Whether bytes are on their way from here: not handed on, not read yet, or part of a bulk flow that pauses.

        What was written to the peer, the kernel delivers without us.
        """
        if self.has_undelivered or self.loop.now - self.bulk_at < BULK_PAUSE:
            return True
        try:
            return fcntl.ioctl(self.sock, termios.FIONREAD, _NO_BYTES) != _NO_BYTES
        except OSError:
            return False

    def on_ready(self, events: int) -> None:
        if events & OUT and self.peer.has_undelivered:
            self.peer.deliver()
        if not events & ~OUT or not self.owner.is_open:
            return
        if events & ERR and (self.ended or self.has_undelivered):
            self.owner.reset_by(self)
        elif not self.ended:
            self.is_readable = True
            self.has_more = bool(events & _MORE)
            if not self.has_undelivered:
                self.receive()

    def receive(self) -> None:
        """Read once, and hand on what came."""
        try:
            count = self.pipe.fill(self.sock.fileno()) if self.pipe else self._read()
        except BlockingIOError:
            self.is_readable = False
            return
        except OSError:
            self.owner.reset_by(self)
            return
        if count >= BULK:
            self.bulk_at = self.loop.now
        if count == 0:
            self._end()
        elif self.pipe:
            self._deliver_piped(self.pipe, count < BULK)
        else:
            self.is_readable = count == READ_SIZE or self.has_more
            self._deliver_copied(self.loop.buffer[:count])

    def deliver(self) -> None:
        """Hand on what waits: the peer takes bytes again."""
        if self.unsent:
            self._deliver_copied(memoryview(self.unsent))
        elif self.pipe:
            self._deliver_piped(self.pipe, False)

    def abort(self) -> None:
        """Make closing the socket reset the connection."""
        reset_on_close(self.sock)

    def close(self) -> None:
        self.loop.close(self.sock)
        self._release_pipe()

    def _read(self) -> int:
        return self.sock.recv_into(self.loop.buffer, 0, socket.MSG_DONTWAIT)

    def _deliver_copied(self, data: memoryview) -> None:
        peer = self.peer
        if not peer.is_prompt and self.delivered:
            peer.make_prompt()
        try:
            sent = peer.sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.owner.reset_by(peer)
            return
        self.unsent = b"" if sent == len(data) else bytes(data[sent:])
        if len(data) >= BULK and not self.unsent:
            self._take_pipe()
        self._account(sent)

    def _deliver_piped(self, pipe: Pipe, is_last: bool) -> None:
        try:
            sent = pipe.empty(self.peer.sock.fileno())
        except BlockingIOError:
            sent = 0
        except OSError:
            self.owner.reset_by(self.peer)
            return
        if is_last and not pipe.filled:
            self._release_pipe()
        self._account(sent)

    def _account(self, sent: int) -> None:
        """Read on in the next turn if the peer has taken everything; else wait until it takes more."""
        self.delivered += sent
        self.owner.on_traffic()
        if self.has_undelivered:
            self.peer.await_room()
        elif self.is_readable and not self.is_queued:
            self.is_queued = True
            self.loop.again(self._read_on)

    def _read_on(self) -> None:
        self.is_queued = False
        if self.is_readable and self.owner.is_open and not self.ended and not self.has_undelivered:
            self.receive()

    def await_room(self) -> None:
        """Have `on_ready` called when the socket takes bytes again, from now on."""
        if not self.awaits_room:
            self.awaits_room = True
            self.loop.watch(self.sock.fileno(), READING | OUT, self.on_ready)

    def make_prompt(self) -> None:
        """Do not delay small writes. The first one never is, and many connections need no second."""
        self.is_prompt = True
        with contextlib.suppress(OSError):  # it was reset, which the write will say
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _end(self) -> None:
        """The peer's reader gets the end of the stream too; the other direction goes on, if it has not ended."""
        self.ended = True
        self._release_pipe()
        self.owner.on_traffic()
        if self.peer.ended:
            self.owner.finish()
            return
        try:
            self.peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.owner.reset_by(self.peer)

    def _take_pipe(self) -> None:
        self.pipe = self.pipes.take()
        if self.pipe:  # splice(2) asks the sockets themselves whether it may block
            self.sock.setblocking(False)
            self.peer.sock.setblocking(False)

    def _release_pipe(self) -> None:
        if self.pipe:
            self.pipes.give_back(self.pipe)
            self.pipe = None
