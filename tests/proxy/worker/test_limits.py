"""At its limits a worker waits: it neither spins nor loses a client."""

from __future__ import annotations

import fcntl
import queue
import resource
import socket
import termios
import threading
import time
from collections.abc import Callable

import pytest

from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionEstablished, DialFailed
from services.proxy.messages import Limits
from tests.proxy.backends import TIMEOUT, echo, fill, read_all, serving
from tests.proxy.worker.worker_process import running

WATCHED = 1.0


def few_files(count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def echoes(client: socket.socket) -> bool:
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    return read_all(client) == b"hello"


def test_at_the_connection_limit_new_clients_wait_in_the_queue() -> None:
    limits = Limits(max_connections=3)
    with serving(echo) as server, running(server.backend(), limits=limits) as worker:
        clients = [worker.connect() for _ in range(8)]
        worker.wait_for_event(ConnectionEstablished, 3)
        assert worker.share_of_cpu(WATCHED) < 0.2
        assert len(worker.of(ConnectionAccepted)) == 3
        for client in clients:
            with client:
                assert echoes(client)
        worker.wait_for_event(ConnectionClosed, 8)
        assert len(worker.settled()) == 8


def test_clients_that_are_held_at_the_connection_limit_are_served_once_a_backend_is_ready() -> None:
    with running(limits=Limits(max_connections=3)) as worker, serving(echo) as server:
        clients = [worker.connect() for _ in range(5)]
        worker.wait_for_event(ConnectionAccepted, 3)
        worker.route(server.backend())
        for client in clients:
            with client:
                assert echoes(client)
        worker.wait_for_event(ConnectionClosed, 5)
        assert len(worker.settled()) == 5


@pytest.mark.parametrize("hold", [0, 10])
@pytest.mark.parametrize("files", [40, 41])
def test_without_free_files_new_clients_wait_in_the_queue(files: int, hold: float) -> None:
    limits = Limits(max_connections=1000, hold=hold)
    with serving(echo) as server, running(server.backend(), limits=limits, preexec=few_files(files)) as worker:
        clients = [worker.connect() for _ in range(40)]
        worker.wait_for_event(ConnectionEstablished, 10)
        assert worker.share_of_cpu(WATCHED) < 0.2
        assert len(worker.of(ConnectionAccepted)) < 40
        for client in clients:
            with client:
                assert echoes(client)
        worker.wait_for_event(ConnectionClosed, 40)
        assert len(worker.settled()) == 40
        assert not worker.of(DialFailed)


def test_the_limit_follows_from_the_files_that_may_be_open() -> None:
    with serving(echo) as server, running(server.backend(), preexec=few_files(64)) as worker:
        clients = [worker.connect() for _ in range(30)]
        for client in clients:
            with client:
                assert echoes(client)
        worker.wait_for_event(ConnectionClosed, 30)


def test_an_idle_worker_uses_no_cpu() -> None:
    with serving(echo) as server, running(server.backend()) as worker:
        clients = [worker.connect() for _ in range(100)]
        worker.wait_for_event(ConnectionEstablished, 100)
        assert worker.share_of_cpu(WATCHED) < 0.05
        for client in clients:
            client.close()


@pytest.mark.parametrize("sender", ["client", "backend"])
def test_a_socket_that_has_ended_both_ways_with_bytes_left_to_move_costs_no_cpu(sender: str) -> None:
    """Such a socket has hung up, which epoll reports for ever; its bytes wait, for the other side does not read."""
    sockets: queue.Queue[socket.socket] = queue.Queue()
    release = threading.Event()

    def lend(sock: socket.socket) -> None:
        sockets.put(sock)
        release.wait(TIMEOUT)

    with serving(lend) as server, running(server.backend()) as worker, worker.connect() as client:
        backend = sockets.get(timeout=TIMEOUT)
        source, sink = (client, backend) if sender == "client" else (backend, client)
        sink.shutdown(socket.SHUT_WR)
        assert source.recv(1) == b""
        sent = fill(source)
        received = make_room(source, sink)
        source.shutdown(socket.SHUT_WR)
        received += make_room(source, sink)
        assert worker.share_of_cpu(WATCHED) < 0.2
        received += len(read_all(sink))
        release.set()
        assert received == sent
        (closed,) = worker.settled()
        assert closed.reason == "eof"


def make_room(source: socket.socket, sink: socket.socket) -> int:
    """Read just as much as it takes until the worker's kernel has everything from the source; returns how much."""
    received = 0
    while fcntl.ioctl(source, termios.TIOCOUTQ, bytes(4)) != bytes(4):
        received += len(sink.recv(1 << 16))
        time.sleep(0.001)
    return received
