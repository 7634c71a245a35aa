"""The event loop: epoll, timers, and nothing that blocks."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from services.proxy.worker.timers import Timed, Timers

IN = select.EPOLLIN
OUT = select.EPOLLOUT
ERR = select.EPOLLERR
HUP = select.EPOLLHUP
PRI = select.EPOLLPRI
RDHUP = select.EPOLLRDHUP
EXCLUSIVE = select.EPOLLEXCLUSIVE
EDGE = select.EPOLLET

READ_SIZE = 64 << 10
_BATCH = 512  # events of one poll: timers are not late however many descriptors are ready

Handler = Callable[[int], None]


class Loop:
    """Calls the handler of each ready descriptor with its epoll events."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.buffer = memoryview(bytearray(READ_SIZE))
        self._longest_turn = 0.0
        self._timers = Timers()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._closing: list[socket.socket] = []
        self._soon: list[Callable[[], None]] = []
        self._again: list[Callable[[], None]] = []

    def watch(self, fd: int, interest: int, handler: Handler) -> None:
        """Call `handler` from now on, for these events; errors and hang-ups are always reported."""
        change = self._epoll.modify if fd in self._handlers else self._epoll.register
        change(fd, interest)
        self._handlers[fd] = handler

    def hand_over(self, fd: int, handler: Handler) -> None:
        """Call another handler from now on, for the same events."""
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Report nothing more about a descriptor."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self, sock: socket.socket) -> None:
        """Close a socket at the end of this turn: until then no other socket can get its number.

        Closing removes it from epoll only if no other process has it open too: see `close_shared`.
        """
        self._handlers.pop(sock.fileno(), None)
        self._closing.append(sock)

    def close_shared(self, sock: socket.socket) -> None:
        """Close a socket that other processes may have open, in which case epoll would still report it (epoll(7))."""
        self.unwatch(sock.fileno())
        self._closing.append(sock)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back at the end of this turn, after the sockets were closed."""
        self._soon.append(callback)

    def again(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn, which does not wait, after the handlers of ready descriptors."""
        self._again.append(callback)

    def set_timer(self, timed: Timed, delay: float) -> None:
        """Fire `timed` in `delay` seconds, instead of when it was set to fire before."""
        self._timers.set(timed, self.now, delay)

    def clear_timer(self, timed: Timed) -> None:
        """Do not fire `timed`."""
        self._timers.clear(timed)

    def turn(self) -> None:
        """Wait until something is ready or due, and handle it."""
        again, self._again = self._again, []
        ready = self._epoll.poll(0 if again else self._timers.until_next(time.monotonic()), _BATCH)
        self.now = time.monotonic()
        handlers = self._handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)
        for callback in again:
            callback()
        for timed in self._timers.due(self.now):
            timed.on_timer()
        self._finish_turn()
        self._longest_turn = max(self._longest_turn, time.monotonic() - self.now)

    def take_longest_turn(self) -> float:
        """Return the seconds of the longest turn since the last call: the others waited that long."""
        longest, self._longest_turn = self._longest_turn, 0.0
        return longest

    def _finish_turn(self) -> None:
        for sock in self._closing:
            sock.close()
        self._closing.clear()
        callbacks, self._soon = self._soon, []
        for callback in callbacks:
            callback()
