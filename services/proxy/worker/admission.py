"""Letting clients in: as many as the limit allows, and none while the process has no room for another socket."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.proxy.worker.balancer import Occupant
from services.proxy.worker.loop import IN, Loop
from services.proxy.worker.timers import Timed

if TYPE_CHECKING:
    from services.proxy.worker.frontend import Frontend

RETRY_INTERVAL = 0.1
_BURST = 64
_LONGEST_QUEUE = 4096


class Admission:
    """Counts who is in, and pauses every listener instead of spinning on a queue that cannot be served."""

    def __init__(self, loop: Loop, limit: int, on_resumed: Callable[[], None]) -> None:
        self.slot: set[Timed] | None = None
        self.occupants: set[Occupant] = set()
        self.is_paused = False
        self._loop = loop
        self._limit = limit
        self._numbers = itertools.count(1)
        self._on_resumed = on_resumed
        self._acceptors: list[Acceptor] = []

    @property
    def is_full(self) -> bool:
        return len(self.occupants) >= self._limit

    def listen(self, sock: socket.socket, frontend: Frontend) -> None:
        """Accept on a listening socket from now on."""
        acceptor = Acceptor(sock, frontend, self)
        self._acceptors.append(acceptor)
        self._loop.watch(sock.fileno(), IN, acceptor.on_ready)

    def close(self, accept_waiting: bool) -> None:
        """Accept no more, on request after those who are in the queue already."""
        for acceptor in self._acceptors:
            if accept_waiting:
                acceptor.drain()
            self._loop.close_shared(acceptor.sock)
        self._acceptors.clear()

    def next_number(self) -> int:
        """A number that no other connection of this worker has."""
        return next(self._numbers)

    def leave(self, occupant: Occupant) -> None:
        """One who was let in is gone."""
        self.occupants.discard(occupant)
        if self.is_paused:
            self._loop.soon(self._resume)

    def pause_while_full(self) -> None:
        """Accept no more until somebody leaves."""
        self.is_paused = True
        for acceptor in self._acceptors:
            self._loop.unwatch(acceptor.sock.fileno())

    def pause(self) -> None:
        """Accept no more until somebody leaves, or a moment has passed: others may have freed what is missing."""
        self.pause_while_full()
        self._loop.set_timer(self, RETRY_INTERVAL)

    def on_timer(self) -> None:
        self._resume()

    def _resume(self) -> None:
        if not self.is_paused or self.is_full:
            return
        self.is_paused = False
        self._loop.clear_timer(self)
        for acceptor in self._acceptors:
            self._loop.watch(acceptor.sock.fileno(), IN, acceptor.on_ready)
        self._on_resumed()


class Acceptor:
    """Takes clients from the queue of one listening socket."""

    def __init__(self, sock: socket.socket, frontend: Frontend, admission: Admission) -> None:
        self.sock = sock
        self._frontend = frontend
        self._admission = admission

    def on_ready(self, events: int) -> None:
        """Accept in a burst: a burst of arrivals costs one turn of the loop."""
        for _ in range(_BURST):
            if self._admission.is_full:
                self._admission.pause_while_full()
            if self._admission.is_paused or not self._accept():
                return

    def drain(self) -> None:
        """Accept all who wait, over the limit too: closing the socket would reset them."""
        for _ in range(_LONGEST_QUEUE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Whether there may be more to accept."""
        try:
            client, _ = self.sock.accept()
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        except OSError:
            self._admission.pause()
            return False
        client.setblocking(False)
        self._frontend.welcome(client)
        return True
