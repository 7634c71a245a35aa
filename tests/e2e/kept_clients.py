"""Clients that keep their connections, and count what goes wrong. Each `ask` is one request."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Protocol

import grpc  # type: ignore[import-untyped] # it has no stubs

from tests.e2e.kept_servers import CLOSE, GOING_AWAY, METHOD, TEXT, encode
from tests.support.harness import wait_for

HOST = "127.0.0.1"
TIMEOUT = 20.0
LIFE = 0.3
"""Seconds for which a client uses a connection whose server cannot end it politely."""


class Client(Protocol):
    def ask(self) -> None:
        """One request. Raises when it is not answered as it should be."""

    def close(self) -> None: ...


class Http:
    """HTTP/1.1 with one connection, until an answer says that it is the last."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)

    def ask(self) -> None:
        self._connection.request("GET", "/")
        answer = self._connection.getresponse()  # it closes the connection after an answer that is the last
        assert answer.read() == b"ok"

    def close(self) -> None:
        self._connection.close()


class Grpc:
    """HTTP/2 with one connection at a time, until a GOAWAY."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(f"{HOST}:{port}", options)
        self._echo = self._channel.unary_unary(METHOD)

    def ask(self) -> None:
        assert self._echo(b"hello", timeout=TIMEOUT) == b"hello"

    def close(self) -> None:
        self._channel.close()


class Wire:
    """A connection that is opened for the next request, and closed by its owner."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.socket: socket.socket | None = None
        self.opened = 0.0

    def open(self) -> socket.socket:
        self.socket = socket.create_connection((HOST, self._port), TIMEOUT)
        self.opened = time.monotonic()
        return self.socket

    def read(self, size: int) -> bytes:
        assert self.socket
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError(f"ended after {len(data)} of {size} bytes")
            data += more
        return data

    def is_old(self) -> bool:
        return self.socket is not None and time.monotonic() > self.opened + LIFE

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None


class WebSocket:
    """Echoes over one connection, until a close frame says that its server goes away."""

    def __init__(self, port: int) -> None:
        self._wire = Wire(port)

    def ask(self) -> None:
        while not self._echo():  # the message crossed the close frame: it was not taken
            self.close()

    def _echo(self) -> bool:
        wire = self._wire
        if wire.socket is None:
            key = b"dGhlIHNhbXBsZSBub25jZQ=="
            head = b"GET /talk HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            wire.open().sendall(head + b"Sec-WebSocket-Key: " + key + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += wire.read(1)
            assert answer.startswith(b"HTTP/1.1 101")
        assert wire.socket
        wire.socket.sendall(encode(TEXT, b"hello", os.urandom(4)))
        first, length = wire.read(2)
        content = wire.read(length)
        if first & 0x0F == CLOSE:
            assert struct.unpack(">H", content) == (GOING_AWAY,)
            wire.socket.sendall(encode(CLOSE, content, os.urandom(4)))
            return False
        assert content == b"hello"
        return True

    def close(self) -> None:
        self._wire.close()


class Redis:
    """PING on a connection of limited life, as a pool's setting does it."""

    def __init__(self, port: int) -> None:
        self._wire = Wire(port)

    def ask(self) -> None:
        wire = self._wire
        if wire.is_old():
            wire.close()
        connection = wire.socket or wire.open()
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert wire.read(7) == b"+PONG\r\n"

    def close(self) -> None:
        self._wire.close()


class Postgres:
    """SELECT 1 on a connection of limited life; it says goodbye to its server at the end of each."""

    def __init__(self, port: int) -> None:
        self._wire = Wire(port)

    def ask(self) -> None:
        if self._wire.is_old():
            self.close()
        if self._wire.socket is None:
            body = struct.pack(">I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
            self._wire.open().sendall(struct.pack(">I", len(body) + 4) + body)
            self._until_ready()
        assert self._wire.socket
        query = b"SELECT 1\0"
        self._wire.socket.sendall(b"Q" + struct.pack(">I", len(query) + 4) + query)
        assert b"D" in self._until_ready()

    def _until_ready(self) -> bytes:
        """The kinds of the messages until the server takes the next query."""
        kinds = b""
        while not kinds.endswith(b"Z"):
            kind, length = struct.unpack(">cI", self._wire.read(5))
            content = self._wire.read(length - 4)
            assert kind != b"E", content
            kinds += kind
        return kinds

    def close(self) -> None:
        if self._wire.socket:
            with contextlib.suppress(OSError):
                self._wire.socket.sendall(b"X" + struct.pack(">I", 4))
        self._wire.close()


class Asking:
    """A thread that asks again and again; an error costs the connection."""

    def __init__(self, make: Callable[[int], Client], port: int) -> None:
        self.name = make.__name__ if isinstance(make, type) else "client"
        self.answered = 0
        self.errors: list[str] = []
        self._make, self._port = make, port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for_more(self, requests: int) -> None:
        goal = self.answered + requests
        wait_for(f"{self.name} goes on ({self.errors[:3]})", lambda: self.answered >= goal)

    def _run(self) -> None:
        client = self._make(self._port)
        while not self._stopping.wait(0.005):
            try:
                client.ask()
                self.answered += 1
            except Exception as error:  # whatever a client makes of it
                self.errors.append(repr(error))
                client.close()
                client = self._make(self._port)
        client.close()
