"""Letting clients in: as many as the limit allows, and none while the process has no room for another socket."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable

from services.proxy.worker.balancer import Session
from services.proxy.worker.loop import EXCLUSIVE, IN, Loop
from services.proxy.worker.timers import Timed

OnClient = Callable[[socket.socket], None]
"""Called with the socket of each client that was accepted."""

RETRY_INTERVAL = 0.1
"""Seconds: soon enough for a client, and too seldom for the attempts to cost anything."""

_LONGEST_QUEUE = 4096
_TURN = 16
"""Clients of a shared listener after which another worker has its turn: two more system calls in so many."""


class Admission:
    """Counts who is in. While no more fit, no listener is watched: that would spin on a queue that cannot be served.

    Two things stop it from accepting. It is full: those who are in can be served. Or the process has no room for
    another socket (`lacks_room`): no client can be, until one leaves or other processes have freed what is missing.
    """

    def __init__(self, loop: Loop, limit: int, on_room: Callable[[], None]) -> None:
        """`on_room` is called when there may be room again."""
        self.slot: set[Timed] | None = None
        self.sessions: set[Session] = set()
        self.lacks_room = False
        self._is_accepting = True
        self._loop = loop
        self._limit = limit
        self._numbers = itertools.count(1)
        self._on_room = on_room
        self._acceptors: list[Acceptor] = []

    @property
    def is_full(self) -> bool:
        return len(self.sessions) >= self._limit

    def listen(self, sock: socket.socket, on_client: OnClient, is_shared: bool = False) -> None:
        """Accept on a listening socket from now on. `is_shared`: other workers accept on it too."""
        acceptor = Acceptor(sock, on_client, self, self._loop, is_shared)
        self._acceptors.append(acceptor)
        acceptor.watch()

    def close(self, accept_waiting: bool) -> None:
        """Accept no more, on request after those who are in the queue already."""
        for acceptor in self._acceptors:
            if accept_waiting:
                acceptor.drain()
            self._loop.close_shared(acceptor.sock)
        self._acceptors.clear()

    def next_number(self) -> int:
        """Return a number that no other connection of this worker has."""
        return next(self._numbers)

    def enter(self, session: Session) -> None:
        """Count a client in."""
        self.sessions.add(session)

    def replace(self, before: Session, after: Session) -> None:
        """Count a client that changes its session: it neither leaves nor enters."""
        self.sessions.discard(before)
        self.sessions.add(after)

    def leave(self, session: Session) -> None:
        """Count a client out, and accept again if that made room."""
        self.sessions.discard(session)
        if not self._is_accepting:
            self._loop.soon(self._resume)

    def stop_if_full(self) -> None:
        """Accept no more until a client leaves, if no more may come in.

        At once, not at the next client: with a shared listener that client would have woken no other worker.
        """
        if self.is_full:
            self._stop_accepting()

    def wait_for_room(self) -> None:
        """Accept and dial no more until a client leaves, or a moment has passed."""
        self.lacks_room = True
        self._stop_accepting()
        self._loop.set_timer(self, RETRY_INTERVAL)

    def on_timer(self) -> None:
        self._resume()

    def _stop_accepting(self) -> None:
        self._is_accepting = False
        for acceptor in self._acceptors:
            self._loop.unwatch(acceptor.sock.fileno())

    def _resume(self) -> None:
        """Serve those who are in first, then let others in."""
        if self.lacks_room:
            self.lacks_room = False
            self._loop.clear_timer(self)
            self._on_room()
        if self._is_accepting or self.lacks_room or self.is_full:
            return
        self._is_accepting = True
        for acceptor in self._acceptors:
            acceptor.watch()


class Acceptor:
    """Takes clients from the queue of one listening socket."""

    def __init__(
        self, sock: socket.socket, on_client: OnClient, admission: Admission, loop: Loop, is_shared: bool
    ) -> None:
        self.sock = sock
        self._on_client = on_client
        self._admission = admission
        self._loop = loop
        self._is_shared = is_shared
        self._accepted = 0

    def watch(self) -> None:
        """Have clients accepted. One of a listener that workers share wakes one of them, not all."""
        self._loop.watch(self.sock.fileno(), IN | EXCLUSIVE if self._is_shared else IN, self.on_ready)

    def on_ready(self, events: int) -> None:
        """Accept one client: if there are more, the socket is ready again in the next turn."""
        self._accept()
        self._accepted += 1
        if self._is_shared and self._accepted % _TURN == 0 and not self._admission.lacks_room:
            self._yield()
        self._admission.stop_if_full()

    def _yield(self) -> None:
        """Go to the end of the queue: epoll wakes the first worker in it that waits, so one would take them all."""
        self._loop.unwatch(self.sock.fileno())
        self.watch()

    def drain(self) -> None:
        """Accept all who wait, over the limit too: closing the socket would reset them."""
        for _ in range(_LONGEST_QUEUE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one client; returns whether there may be more."""
        try:
            client, _ = self.sock.accept()
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        except OSError:
            self._admission.wait_for_room()
            return False
        self._on_client(client)
        return True
