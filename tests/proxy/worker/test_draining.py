"""Backends that leave, masters that stop or die: what happens to the connections that are open."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.events import ConnectionAccepted, ConnectionClosed, ConnectionEstablished, ConnectionProgressed
from services.proxy.messages import Limits, Stop
from tests.proxy.backends import echo, flood, named, read_all, serving
from tests.proxy.worker.worker_process import DEADLINE, WorkerProcess, running


def finish(client: socket.socket, message: bytes = b"bye") -> bytes:
    """Say a last word, end, and return everything that comes."""
    client.sendall(message)
    client.shutdown(socket.SHUT_WR)
    return read_all(client)


def draining(worker: WorkerProcess) -> list[dict[str, int]]:
    return [message.draining for message in worker.following()]


def test_a_draining_backend_keeps_its_connections_and_gets_no_new_ones() -> None:
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b, running(a.backend()) as worker:
        with worker.connect() as old:
            assert old.recv(1) == b"a"
            worker.route(a.backend("draining"), b.backend())
            assert draining(worker)[-1] == {"a": 1}
            for _ in range(3):
                with worker.connect() as new:
                    assert new.recv(1) == b"b"
            assert finish(old) == b"bye"
        worker.wait_for(lambda: draining(worker)[-1] == {})


def test_a_backend_that_leaves_the_route_is_cut_and_the_cuts_are_counted() -> None:
    with serving(echo, "a") as a, serving(echo, "b") as b, running(a.backend()) as worker:
        clients = [worker.connect() for _ in range(3)]
        worker.wait_for_event(ConnectionEstablished, 3)
        worker.route(b.backend())
        assert worker.following()[-1].cut == {"a": 3}
        for client in clients:
            assert client.recv(1) == b""
            client.close()
        assert {event.reason for event in worker.of(ConnectionClosed)} <= {"drained"}
        assert len(worker.settled()) == 3


def test_a_cut_in_the_middle_of_a_message_is_a_reset_not_an_end() -> None:
    with serving(flood) as server, running(server.backend()) as worker, worker.connect() as client:
        for _ in range(20):
            client.recv(1 << 16)
        worker.route()
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_a_cut_between_two_requests_is_an_end() -> None:
    """However short the pause is: a client that keeps its connection in use sees no reset."""
    with serving(echo) as server, running(server.backend()) as worker, worker.connect() as client:
        client.sendall(b"?")
        assert client.recv(1) == b"?"
        worker.route()
        assert client.recv(1) == b""


def test_a_reply_that_the_client_has_not_read_is_delivered_before_the_end_of_a_cut_connection() -> None:
    size = 100_000

    def reply(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"z" * size)
        sock.recv(1)

    with serving(reply) as server, running(server.backend()) as worker, worker.connect() as client:
        client.sendall(b"?")
        worker.wait_for(lambda: sum(event.bytes_out for event in worker.of(ConnectionProgressed)[-1:]) == size)
        worker.route()
        assert len(read_all(client)) == size


def test_a_worker_that_is_stopped_serves_those_who_wait_in_the_queue_and_finishes_what_is_open() -> None:
    count = 40
    with serving(echo) as server, running(server.backend()) as worker, ThreadPoolExecutor(count) as pool:
        clients = list(pool.map(lambda _: worker.connect(), range(count)))
        worker.tell(Stop())
        assert list(pool.map(finish, clients)) == [b"bye"] * count
        for client in clients:
            client.close()
        assert worker.hear_out() == 0
        assert {event.reason for event in worker.of(ConnectionClosed)} == {"eof"}
        assert len(worker.settled()) == count


def test_connections_that_outlive_the_drain_time_are_cut() -> None:
    with serving(echo) as server, running(server.backend(), limits=Limits(drain_time=0.3)) as worker:
        with worker.connect() as client:
            worker.wait_for_event(ConnectionEstablished)
            assert worker.stop() == 0
            assert client.recv(1) == b""
        (closed,) = worker.settled()
        assert isinstance(closed, ConnectionClosed)
        assert closed.reason == "shutdown"


def test_a_client_that_is_held_when_the_drain_time_is_over_is_cut_too() -> None:
    with running(limits=Limits(drain_time=0.1)) as worker, worker.connect():
        worker.wait_for_event(ConnectionAccepted)
        assert worker.stop() == 0
        (closed,) = worker.settled()
        assert isinstance(closed, ConnectionClosed)
        assert (closed.backend, closed.reason) == ("", "shutdown")


def test_a_worker_whose_master_dies_finishes_its_connections_and_ends() -> None:
    with serving(echo) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            worker.wait_for_event(ConnectionEstablished)
            worker.lose_master()
            assert finish(client) == b"bye"
        assert worker.process.wait(DEADLINE) == 0


def test_a_worker_whose_master_dies_leaves_new_clients_to_the_next_one() -> None:
    with serving(echo) as server, running(server.backend()) as worker, worker.connect() as client:
        worker.wait_for_event(ConnectionEstablished)
        worker.lose_master()
        assert finish(client) == b"bye"
        client.close()
        worker.process.wait(DEADLINE)
        with worker.connect() as late:
            late.sendall(b"kept")
            queued = worker.accept()
            with queued:
                assert queued.recv(4) == b"kept"
