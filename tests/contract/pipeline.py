"""A running Longshore, seen from outside: a client that counts, an application that does, and releases."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.support.harness import LONGSHORE, Server, clean_environment, wait_for
from tests.support.ports import free_port

ORIGIN = Path(__file__).with_name("origin.py")


class LogMessage(msgspec.Struct, frozen=True):
    """A connection as the application saw it."""

    path: str
    status: int
    received: int
    sent: int


class Releases:
    """The registry, and what the replicas of its releases wrote down. `pushed` counts releases by whether they run."""

    def __init__(self, server: Server) -> None:
        self.pushed = {True: 0, False: 0}
        self._registry = server.registry
        self._journal = server.registry.parent / "journal"
        self._journal.touch()
        self._sick = self._journal.with_suffix(".sick")

    def push(self, release: str, runs: bool = True) -> None:
        folder = self._registry / f".{release}"
        folder.mkdir()
        shutil.copy(ORIGIN, folder / "origin.py")
        (folder / "journal").write_text(str(self._journal))
        (folder / "run").write_text(f"#!/bin/sh\n{'exec ' + sys.executable + ' -S origin.py' if runs else 'exit 3'}\n")
        (folder / "run").chmod(0o755)
        folder.rename(self._registry / release)
        self.pushed[runs] += 1

    def fall_ill(self) -> None:
        self._sick.touch()

    def recover(self) -> None:
        self._sick.unlink()

    def probes(self, status: int) -> int:
        return sum(entry.path == "/health" and entry.status == status for entry in self._entries())

    def visits(self) -> list[LogMessage]:
        """Those that came through the proxy."""
        return [entry for entry in self._entries() if entry.path != "/health"]

    def _entries(self) -> list[LogMessage]:
        return [msgspec.json.decode(line, type=LogMessage) for line in self._journal.read_text().splitlines()]


class Client:
    """Opens connections to the proxy and counts what it does."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self.refused = 0
        self.sent = 0
        self.received = 0
        self._port = port
        self._open: list[socket.socket] = []

    @property
    def open(self) -> int:
        return len(self._open)

    def ask(self, body: int, answer: int) -> None:
        """A request with so many bytes, answered by so many, on a connection of its own."""
        with self._connect() as sock:
            self._send(sock, f"POST /data/{answer} HTTP/1.1\r\nContent-Length: {body}\r\n\r\n".encode() + b"y" * body)
            while data := sock.recv(65536):
                self.received += len(data)

    def stay(self, answer: int) -> None:
        """A request on a connection that then stays open."""
        sock = self._connect()
        self._send(sock, f"GET /stream/{answer} HTTP/1.1\r\n\r\n".encode())
        head = f"HTTP/1.1 200 -\r\nContent-Length: {answer}\r\n\r\n"
        goal = self.received + len(head) + answer
        while self.received < goal:
            self.received += len(sock.recv(65536))
        self._open.append(sock)

    def be_refused(self) -> None:
        """A connection that nobody answers."""
        with self._connect() as sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                self.refused += 1

    def leave(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.pop().close()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        self.connections += 1
        return sock

    def _send(self, sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)
        self.sent += len(data)


@contextmanager
def gateway_alone(server: Server, *options: str) -> Iterator[str]:
    """A bus and a gateway on what a server has left behind, and nothing that could add to it. Yields the URL."""
    port = free_port()
    commands = [
        ["bus"],
        ["gateway", "--telemetry", f"--admin-port={port}", *options],
    ]
    started = []
    with server.log.open("ab") as log:
        for command in commands:
            words = [LONGSHORE, *command, f"--state-dir={server.state}"]
            started.append(subprocess.Popen(words, stderr=log, env=clean_environment()))
            wait_for("the bus answers", lambda: server.verb("status").returncode == 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)
