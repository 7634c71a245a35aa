"""A worker between real clients and real backends: half-close, resets, back-pressure, and what it records."""

from __future__ import annotations

import socket

from schemas.events import ConnectionClosed, ConnectionEstablished
from tests.proxy.backends import read_all, serving
from tests.proxy.worker_process import running


def test_a_client_that_ends_its_stream_still_gets_the_whole_reply() -> None:
    def reply_at_the_end(sock: socket.socket) -> None:
        request = read_all(sock)
        sock.sendall(request * 100)

    with serving(reply_at_the_end) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            client.sendall(b"x" * 1000)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"x" * 100_000
        (closed,) = worker.settled()
        assert isinstance(closed, ConnectionClosed)
        assert (closed.backend, closed.bytes_in, closed.bytes_out, closed.reason) == ("a", 1000, 100_000, "eof")
        (established,) = worker.of(ConnectionEstablished)
        assert (established.attempts, established.held) == (1, 0.0)
