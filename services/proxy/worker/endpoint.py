"""One socket of an open connection, and the bytes on their way from it to its peer."""

from __future__ import annotations

import fcntl
import socket
import termios
from typing import TYPE_CHECKING

from services.proxy.worker.dialing import reset_on_close
from services.proxy.worker.loop import ERR, HUP, IN, OUT
from services.proxy.worker.pipes import Pipe

if TYPE_CHECKING:
    from services.proxy.worker.connection import Connection

BULK = 16 << 10
_NO_BYTES = bytes(4)


class Endpoint:
    """Reads only as fast as its peer takes the bytes: at most one read, or one pipe full, waits in between.

    Small reads are copied through the loop's buffer; after a read of BULK bytes or more they are spliced through a
    pipe, until a read is small again. `delivered` counts the bytes read here that the peer's socket took.
    """

    __slots__ = ("connection", "delivered", "ended", "interest", "loop", "peer", "pipe", "pipes", "sock", "unsent")

    peer: Endpoint

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self.loop = connection.loop
        self.pipes = connection.frontend.resources.pipes
        self.sock = sock
        self.interest = 0
        self.unsent = b""
        self.pipe: Pipe | None = None
        self.delivered = 0
        self.ended = False

    @property
    def has_undelivered(self) -> bool:
        return bool(self.unsent or (self.pipe and self.pipe.filled))

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait in the kernel that were not read here yet. What was written, it delivers without us."""
        try:
            return fcntl.ioctl(self.sock, termios.FIONREAD, _NO_BYTES) != _NO_BYTES
        except OSError:
            return False

    def join(self, peer: Endpoint) -> None:
        """Begin to read, and to hand on to `peer`."""
        self.peer = peer
        self.want(IN)

    def want(self, interest: int) -> None:
        """Be told of these events."""
        if interest != self.interest:
            self.loop.watch(self.sock.fileno(), interest, self.on_ready)
            self.interest = interest

    def on_ready(self, events: int) -> None:
        if events & OUT:
            self.peer.deliver()
        if events & ~OUT and self.connection.is_open:
            if self.interest & IN:
                self.receive()
            elif events & ERR:
                self.connection.reset_by(self)
            elif events & HUP:
                self._ignore()

    def receive(self) -> None:
        """Read once, and hand on what came."""
        try:
            count = self.pipe.fill(self.sock.fileno()) if self.pipe else self.sock.recv_into(self.loop.buffer)
        except BlockingIOError:
            return
        except OSError:
            self.connection.reset_by(self)
            return
        if count == 0:
            self._end()
        elif self.pipe:
            self._deliver_piped(self.pipe, count < BULK)
        else:
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

    def _deliver_copied(self, data: memoryview) -> None:
        try:
            sent = self.peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.connection.reset_by(self.peer)
            return
        self.unsent = b"" if sent == len(data) else bytes(data[sent:])
        if len(data) >= BULK and not self.unsent:
            self.pipe = self.pipes.take()
        self._account(sent)

    def _deliver_piped(self, pipe: Pipe, is_last: bool) -> None:
        try:
            sent = pipe.empty(self.peer.sock.fileno())
        except BlockingIOError:
            sent = 0
        except OSError:
            self.connection.reset_by(self.peer)
            return
        if is_last and not pipe.filled:
            self._release_pipe()
        self._account(sent)

    def _account(self, sent: int) -> None:
        self.delivered += sent
        self.connection.on_traffic()
        must_wait = self.has_undelivered
        if must_wait == bool(self.interest & IN):
            self._throttle(must_wait)

    def _throttle(self, must_wait: bool) -> None:
        """Read on if the peer has taken everything; else wait until it takes more."""
        peer = self.peer
        self.want(self.interest & ~IN if must_wait else self.interest | IN)
        peer.want(peer.interest | OUT if must_wait else peer.interest & ~OUT)

    def _end(self) -> None:
        """The peer's reader gets the end of the stream too; the other direction goes on."""
        self.ended = True
        self.want(self.interest & ~IN)
        self._release_pipe()
        self.connection.on_traffic()
        try:
            self.peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.connection.reset_by(self.peer)
            return
        if self.peer.ended:
            self.connection.finish()

    def _ignore(self) -> None:
        """Both directions of this socket have ended, but its last bytes must wait: epoll would report that for ever."""
        self.loop.unwatch(self.sock.fileno())
        self.interest = 0

    def _release_pipe(self) -> None:
        if self.pipe:
            self.pipes.give_back(self.pipe)
            self.pipe = None
