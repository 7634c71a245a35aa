"""A worker between real clients and real backends: ends, resets, back-pressure, and what it records of them."""

from __future__ import annotations

import fcntl
import random
import signal
import socket
import struct
import termios
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.events import (
    ConnectionAccepted,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionProgressed,
    ServiceHeartbeat,
)
from services.proxy.messages import Limits
from tests.proxy.backends import Handler, echo, fill, flood, named, read_all, reset, serving, wait_for_end
from tests.proxy.worker.worker_process import DEADLINE, WorkerProcess, running


def the_closed(worker: WorkerProcess) -> ConnectionClosed:
    (closed,) = worker.settled()
    assert isinstance(closed, ConnectionClosed)
    return closed


def test_a_client_that_ends_its_stream_still_gets_the_whole_reply() -> None:
    def reply_at_the_end(sock: socket.socket) -> None:
        request = read_all(sock)
        sock.sendall(request * 100)

    with serving(reply_at_the_end) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            client.sendall(b"x" * 1000)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"x" * 100_000
        closed = the_closed(worker)
        assert (closed.backend, closed.bytes_in, closed.bytes_out, closed.reason) == ("a", 1000, 100_000, "eof")
        (established,) = worker.of(ConnectionEstablished)
        assert (established.attempts, established.held) == (1, 0.0)


def test_a_backend_that_ends_its_stream_still_gets_the_whole_request() -> None:
    received = []

    def greet_and_listen(sock: socket.socket) -> None:
        sock.sendall(b"done")
        sock.shutdown(socket.SHUT_WR)
        received.append(read_all(sock))

    with serving(greet_and_listen) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            assert read_all(client) == b"done"
            client.sendall(b"y" * 300_000)
            client.shutdown(socket.SHUT_WR)
            closed = the_closed(worker)
        assert (closed.bytes_in, closed.bytes_out, closed.reason) == (300_000, 4, "eof")
    assert received == [b"y" * 300_000]


def test_megabytes_flow_both_ways_at_once_and_through_a_pipe() -> None:
    data = random.Random(1).randbytes(8 << 20)
    with serving(echo) as server, running(server.backend()) as worker, ThreadPoolExecutor() as pool:
        with worker.connect() as client:
            receiving = pool.submit(read_all, client)
            client.sendall(data)
            assert "pipe" in worker.open_files()
            client.shutdown(socket.SHUT_WR)
            assert receiving.result(DEADLINE) == data
        closed = the_closed(worker)
        assert (closed.bytes_in, closed.bytes_out, closed.reason) == (len(data), len(data), "eof")


def test_bytes_behind_an_urgent_one_do_not_wait_for_more() -> None:
    """A read ends at the urgent byte (tcp(7)), though there is more, and epoll does not say so again."""
    with serving(echo) as server, running(server.backend()) as worker, worker.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        worker.process.send_signal(signal.SIGSTOP)
        client.sendall(b"before")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"behind")
        worker.process.send_signal(signal.SIGCONT)
        received = b""
        while len(received) < 12:
            received += client.recv(12)
        assert received == b"beforebehind"


def test_a_reset_by_the_client_resets_the_backend() -> None:
    outcome: list[type] = []

    def listen(sock: socket.socket) -> None:
        try:
            read_all(sock)
        except OSError as error:
            outcome.append(type(error))

    with serving(listen) as server, running(server.backend()) as worker:
        client = worker.connect()
        worker.wait_for_event(ConnectionEstablished)
        reset(client)
        assert the_closed(worker).reason == "client_reset"
    assert outcome == [ConnectionResetError]


def test_a_reset_by_the_backend_resets_the_client() -> None:
    def hang_up(sock: socket.socket) -> None:
        sock.recv(1)
        reset(sock)

    with serving(hang_up) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            client.sendall(b"?")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        closed = the_closed(worker)
        assert (closed.bytes_in, closed.reason) == (1, "backend_reset")


def test_a_reset_is_passed_on_while_the_other_side_does_not_read() -> None:
    with serving(flood) as server, running(server.backend()) as worker:
        client = worker.connect()
        until_stalled(worker, client)
        reset(client)
        assert the_closed(worker).reason == "client_reset"


def until_stalled(worker: WorkerProcess, *clients: socket.socket) -> None:
    """Return when the worker has stopped to move bytes to clients that do not read."""
    before = -1
    pause = threading.Event()
    while (moved := sum(unread(client) for client in clients)) != before:
        before = moved
        pause.wait(0.3)
    assert before > 0


def unread(sock: socket.socket) -> int:
    """Bytes that wait in a socket's receive queue."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    return int(count)


@pytest.mark.parametrize("direction", ["client", "backend"])
def test_memory_is_bounded_while_readers_stall(direction: str) -> None:
    release = threading.Event()

    def stall(sock: socket.socket) -> None:
        release.wait(DEADLINE)

    handler: Handler = flood if direction == "client" else stall
    with serving(handler) as server, running(server.backend()) as worker:
        clients = [worker.connect() for _ in range(20)]
        worker.wait_for_event(ConnectionEstablished, 20)
        before = resident(worker)
        if direction == "client":
            until_stalled(worker, *clients)
        else:
            with ThreadPoolExecutor(len(clients)) as pool:
                assert all(pool.map(fill, clients))
        grown = resident(worker) - before
        release.set()
        for client in clients:
            client.close()
        worker.settled()
    assert grown < 8 << 20


def resident(worker: WorkerProcess) -> int:
    """Resident memory in bytes."""
    return int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * 4096


def test_a_reader_that_stalls_gets_every_byte_in_the_end() -> None:
    data = random.Random(2).randbytes(24 << 20)
    with serving(lambda sock: sock.sendall(data)) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            until_stalled(worker, client)
            assert read_all(client) == data
        assert the_closed(worker).bytes_out == len(data)


def test_a_connection_without_traffic_is_closed_after_the_idle_timeout() -> None:
    with serving(wait_for_end) as server, running(server.backend(), limits=Limits(idle_timeout=0.2)) as worker:
        with worker.connect() as client:
            assert client.recv(1) == b""
        assert the_closed(worker).reason == "idle"


def test_traffic_in_one_direction_keeps_a_connection_from_being_idle() -> None:
    beats = 8

    def beat(sock: socket.socket) -> None:
        pause = threading.Event()
        for _ in range(beats):
            pause.wait(0.15)
            sock.sendall(b".")

    with serving(beat) as server, running(server.backend(), limits=Limits(idle_timeout=0.6)) as worker:
        with worker.connect() as client:
            assert read_all(client) == b"." * beats
        assert the_closed(worker).reason == "eof"


def test_a_connection_that_stays_open_reports_its_bytes() -> None:
    with serving(echo) as server, running(server.backend()) as worker, worker.connect() as client:
        client.sendall(b"12345")
        (first,) = worker.wait_for_event(ConnectionProgressed)
        assert (first.bytes_in, first.bytes_out) == (5, 5)
        worker.wait_for_event(ServiceHeartbeat)
        assert len(worker.of(ConnectionProgressed)) == 1
        client.sendall(b"67")
        second = worker.wait_for_event(ConnectionProgressed, 2)[-1]
        assert (second.bytes_in, second.bytes_out) == (7, 7)


def test_thousands_of_short_connections_have_exactly_one_beginning_and_one_end() -> None:
    count = 3000

    def use(worker: WorkerProcess, number: int) -> None:
        message = f"number {number}".encode()
        with worker.connect() as client:
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == message

    with serving(echo) as server, running(server.backend()) as worker, ThreadPoolExecutor(8) as pool:
        for use_of in [pool.submit(use, worker, number) for number in range(count)]:
            use_of.result(DEADLINE)
        worker.wait_for_event(ConnectionAccepted, count)
        ended = worker.settled()
        assert len(ended) == len(worker.of(ConnectionEstablished)) == count
        total = sum(len(f"number {number}") for number in range(count))
        assert sum(event.bytes_in for event in ended if isinstance(event, ConnectionClosed)) == total
        assert {event.connection for event in worker.of(ConnectionEstablished)} == {e.connection for e in ended}


def test_round_robin_takes_turns() -> None:
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b, running(a.backend(), b.backend()) as worker:
        names = []
        for _ in range(6):
            with worker.connect() as client:
                names.append(client.recv(1))
        assert sorted(names) == [b"a"] * 3 + [b"b"] * 3


def test_least_connections_prefers_who_has_fewest() -> None:
    limits = Limits(balance="least-connections")
    with serving(named("a"), "a") as a, running(a.backend(), limits=limits) as worker:
        busy = [worker.connect() for _ in range(3)]
        worker.wait_for_event(ConnectionEstablished, 3)
        with serving(named("b"), "b") as b:
            worker.route(a.backend(), b.backend())
            fresh = [worker.connect() for _ in range(3)]
            assert [client.recv(1) for client in fresh] == [b"b"] * 3
            for client in busy + fresh:
                client.close()
