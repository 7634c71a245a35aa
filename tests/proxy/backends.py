"""Backends for the proxy: each a real TCP server in a thread, that does one simple thing."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.routing import Backend, BackendState
from tests.support.ports import free_port

TIMEOUT = 15.0

Handler = Callable[[socket.socket], None]


class Server:
    """Accepts in a thread; each connection is handled in a thread of its own, and may fail without harm."""

    def __init__(self, handle: Handler, name: str = "a", port: int = 0) -> None:
        self.name = name
        self.accepted = 0
        self._handle = handle
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._sock = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._sock.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def backend(self, state: BackendState = "active") -> Backend:
        return Backend(self.name, "127.0.0.1", self.port, state)

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._sock.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.accepted += 1
            sock.settimeout(TIMEOUT)
            self._open.add(sock)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._handle(sock)
        self._open.discard(sock)


@contextmanager
def serving(handle: Handler, name: str = "a", port: int = 0) -> Iterator[Server]:
    server = Server(handle, name, port)
    try:
        yield server
    finally:
        server.close()


def echo(sock: socket.socket) -> None:
    """Send back everything as it comes, and end when the client ends."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def named(name: str) -> Handler:
    """Say a name to everyone, then echo."""

    def greet(sock: socket.socket) -> None:
        sock.sendall(name.encode())
        echo(sock)

    return greet


def flood(sock: socket.socket) -> None:
    """Send as fast as the other side reads, for ever."""
    while True:
        sock.sendall(b"z" * (1 << 16))


def wait_for_end(sock: socket.socket) -> None:
    """Say nothing until the client ends."""
    while sock.recv(1 << 16):
        pass


def nobody(name: str = "a", state: BackendState = "active") -> Backend:
    """A backend where nobody listens."""
    return Backend(name, "127.0.0.1", free_port(), state)


def fill(client: socket.socket) -> int:
    """Send until nothing is taken any more; returns how many bytes were."""
    client.settimeout(0.3)
    taken = 0
    try:
        while True:
            taken += client.send(b"z" * (1 << 16))
    except TimeoutError:
        return taken


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side ends its stream."""
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)
