"""Failed dials, other backends, and clients that are held until somebody can serve them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.events import (
    ConnectionAccepted,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionRefused,
    DialFailed,
)
from schemas.routing import Backend
from services.proxy.messages import BackendRecovered, DialFailure, Eject, Limits, Readmit
from services.proxy.worker.balancer import Dial, Target
from tests.proxy.backends import echo, named, nobody, read_all, reset, serving
from tests.proxy.worker.worker_process import APP, WorkerProcess, running


@contextmanager
def unanswering() -> Iterator[Backend]:
    """A backend whose kernel no longer answers: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        while True:
            sock = socket.socket()
            waiting.append(sock)
            sock.settimeout(0.3)
            try:
                sock.connect(address)
            except TimeoutError:
                break
        yield Backend("full", *address)
        for sock in waiting:
            sock.close()


def failures(worker: WorkerProcess) -> list[DialFailure]:
    return [message for message in worker.said if isinstance(message, DialFailure)]


def echoes(client: socket.socket) -> bool:
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    return read_all(client) == b"hello"


def test_a_failed_dial_goes_to_the_next_backend_and_the_master_is_told() -> None:
    gone = nobody("gone")
    with serving(echo) as server, running(gone, server.backend()) as worker:
        with worker.connect() as client:
            assert echoes(client)
        worker.settled()
        (failed,) = worker.of(DialFailed)
        assert (failed.backend, failed.reason) == ("gone", "refused")
        (established,) = worker.of(ConnectionEstablished)
        assert (established.backend, established.attempts) == ("a", 2)
        assert failures(worker) == [DialFailure(APP, worker.port, gone, "refused")]


def test_a_backend_that_failed_is_skipped_until_it_is_admitted_again() -> None:
    gone = nobody("gone")
    with serving(echo) as server, running(gone, server.backend()) as worker:
        for _ in range(4):
            with worker.connect() as client:
                assert echoes(client)
        worker.wait_for_event(ConnectionClosed, 4)
        assert len(worker.of(DialFailed)) == 1
        with serving(named("back"), "gone", gone.port):
            worker.tell(Readmit(APP, worker.port, "gone"))
            worker.tell(Eject(APP, worker.port, "a"))
            with worker.connect() as client:
                assert client.recv(4) == b"back"
            worker.wait_for(lambda: BackendRecovered(APP, worker.port, "gone") in worker.said)


def test_a_new_address_is_tried_at_once() -> None:
    with running(nobody("a")) as worker, worker.connect() as client:
        worker.wait_for_event(DialFailed)
        with serving(echo, "a") as server:
            worker.route(server.backend())
            assert echoes(client)


def test_a_backend_that_does_not_answer_in_time_is_passed_over() -> None:
    limits = Limits(connect_timeout=0.3)
    with unanswering() as full, serving(echo) as server, running(full, server.backend(), limits=limits) as worker:
        with worker.connect() as client:
            assert echoes(client)
        worker.settled()
        (failed,) = worker.of(DialFailed)
        assert (failed.backend, failed.reason) == ("full", "timeout")
        assert failed.latency >= 0.3


def test_a_dial_to_a_backend_that_leaves_the_route_goes_elsewhere() -> None:
    with unanswering() as full, serving(echo) as server, running(full) as worker, worker.connect() as client:
        worker.wait_for_event(ConnectionAccepted)
        worker.route(server.backend())
        assert echoes(client)
        worker.settled()
        assert not worker.of(DialFailed)
        assert [message.cut for message in worker.following()] == [{}, {}]


def test_a_client_that_dials_the_old_address_of_a_backend_goes_to_the_new_one() -> None:
    limits = Limits(connect_timeout=60)
    with unanswering() as full, serving(echo, full.id) as server, running(full, limits=limits) as worker:
        with worker.connect() as client:
            worker.wait_for_event(ConnectionAccepted)
            worker.route(server.backend())
            assert echoes(client)
        worker.settled()
        assert not worker.of(DialFailed)
        assert not failures(worker)


def test_a_dial_that_began_before_its_backend_was_admitted_again_ejects_none() -> None:
    limits = Limits(connect_timeout=1)
    with unanswering() as full, running(full, limits=limits) as worker, worker.connect():
        worker.wait_for_event(ConnectionAccepted)
        time.sleep(0.5)  # the second dial ends later than the first one, and than what follows from that
        with worker.connect():
            worker.wait_for(lambda: failures(worker))
            worker.tell(Readmit(APP, worker.port, full.id, 1))
            worker.wait_for_event(DialFailed, 2)
            worker.wait_for(lambda: len(failures(worker)) > 1)
    assert [failed.admission for failed in failures(worker)][:2] == [0, 1]


def test_a_client_whose_dials_failed_goes_to_a_backend_that_was_admitted_in_the_meantime() -> None:
    limits = Limits(connect_timeout=1.5)
    gone = nobody("gone")
    with unanswering() as full, running(gone, full, limits=limits) as worker, worker.connect() as client:
        worker.wait_for_event(DialFailed)
        with serving(echo, "gone", gone.port):
            worker.tell(Readmit(APP, worker.port, "gone", 1))
            assert echoes(client)


def test_a_dial_that_a_later_one_disproves_is_no_news() -> None:
    target = Target(nobody(), ejected=False, admission=1)
    dial = Dial(target, target.address, 1, 5.0)
    target.answered_at = 4.0
    assert dial.is_news
    target.answered_at = 6.0
    assert not dial.is_news


def test_a_client_is_held_until_a_backend_joins_and_nothing_that_it_sent_is_lost() -> None:
    with running() as worker, worker.connect() as client:
        client.sendall(b"early ")
        worker.wait_for_event(ConnectionAccepted)
        with serving(echo) as server:
            worker.route(server.backend())
            client.sendall(b"late")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"early late"
        (established,) = worker.wait_for_event(ConnectionEstablished)
        assert established.held > 0
        assert established.attempts == 1


def test_a_client_that_has_ended_its_request_is_held_too_and_gets_its_reply() -> None:
    with running() as worker, worker.connect() as client:
        client.sendall(b"all I have to say")
        client.shutdown(socket.SHUT_WR)
        worker.wait_for_event(ConnectionAccepted)
        with serving(echo) as server:
            worker.route(server.backend())
            assert read_all(client) == b"all I have to say"


def test_a_client_is_refused_when_no_backend_appears_in_the_hold_time() -> None:
    with running(limits=Limits(hold=0.3)) as worker:
        with worker.connect() as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        (refused,) = worker.settled()
        assert isinstance(refused, ConnectionRefused)
        assert refused.reason == "no_backend"
        assert refused.duration >= 0.3


def test_a_client_is_refused_when_every_dial_failed_in_the_hold_time() -> None:
    with running(nobody("a"), nobody("b"), limits=Limits(hold=0.3)) as worker:
        with worker.connect() as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        (refused,) = worker.settled()
        assert isinstance(refused, ConnectionRefused)
        assert refused.reason == "dial_failed"
        assert len(worker.of(DialFailed)) == 2


def test_without_a_hold_time_a_client_is_refused_at_once() -> None:
    with running(limits=Limits(hold=0)) as worker:
        with pytest.raises(ConnectionResetError), worker.connect() as client:
            client.recv(1)
        assert isinstance(worker.settled()[0], ConnectionRefused)


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_client_that_leaves_while_it_is_held_is_noticed(leave: object) -> None:
    with running() as worker:
        client = worker.connect()
        worker.wait_for_event(ConnectionAccepted)
        assert callable(leave)
        leave(client)
        (closed,) = worker.settled()
        assert isinstance(closed, ConnectionClosed)
        assert (closed.backend, closed.reason, closed.bytes_in) == ("", "client_gone", 0)


def test_an_ipv6_backend_is_reached() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with running(Backend("six", "::1", port)) as worker, worker.connect() as client:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"6")
                assert client.recv(1) == b"6"
