"""The worker's end of the socket pair to its master."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from services.proxy.frames import Unframer, frame
from services.proxy.messages import Message
from services.proxy.worker.loop import ERR, HUP, IN, OUT, Loop

CONGESTED = 32 << 20
"""Unsent bytes from which on events are dropped: they would fill the memory of a worker whose master hangs."""

FLUSH_TIMEOUT = 5.0


class Channel:
    """Sends without waiting. When the master is gone, it calls `on_lost` and discards further messages."""

    def __init__(
        self, sock: socket.socket, loop: Loop, on_message: Callable[[Message], None], on_lost: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_message = on_message
        self._on_lost = on_lost
        self._unframer = Unframer()
        self._unsent = bytearray()
        self.is_lost = False
        self._is_waiting = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), IN, self._on_ready)

    @property
    def is_congested(self) -> bool:
        """Whether the master is far behind in reading."""
        return len(self._unsent) > CONGESTED

    @property
    def is_drained(self) -> bool:
        """Whether no sent bytes wait in this process."""
        return not self._unsent

    def send(self, message: Message) -> None:
        """Send a message now, or as soon as the socket has room."""
        if self.is_lost:
            return
        self._unsent += frame(message)
        if not self._is_waiting:
            self._send()

    def flush(self) -> None:
        """Wait until the master has everything, at most FLUSH_TIMEOUT seconds."""
        if not self.is_lost:
            self._sock.settimeout(FLUSH_TIMEOUT)
            with contextlib.suppress(OSError):
                self._sock.sendall(self._unsent)

    def _on_ready(self, events: int) -> None:
        if events & OUT:
            self._send()
        if events & (IN | ERR | HUP) and not self.is_lost:
            self._receive()

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose()
            return
        del self._unsent[:sent]
        if bool(self._unsent) != self._is_waiting:
            self._is_waiting = not self._is_waiting
            self._loop.watch(self._sock.fileno(), IN | OUT if self._is_waiting else IN, self._on_ready)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        for message in self._unframer.feed(data):
            self._on_message(message)

    def _lose(self) -> None:
        self.is_lost = True
        self._unsent.clear()
        self._loop.unwatch(self._sock.fileno())
        self._loop.soon(self._on_lost)
