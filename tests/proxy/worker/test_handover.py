"""A worker whose master died leaves what nobody has taken to the next one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import chain, codec, handover
from schemas.chain import SealedBatch, Sealer
from schemas.events import ConnectionAccepted, ConnectionClosed, Event, ServiceStopped
from services.proxy.messages import WorkerIdentity
from services.proxy.worker.admission import Admission
from services.proxy.worker.loop import OUT, Loop
from services.proxy.worker.timers import Timed
from tests.proxy.backends import echo, serving
from tests.proxy.worker.worker_process import DEADLINE, running

INSTANCE = "worker"


@pytest.fixture
def origin(tmp_path: Path) -> WorkerIdentity:
    sealer = Sealer("proxy", "host", INSTANCE, 1, bytes(32))
    return WorkerIdentity("host", INSTANCE, sealer.sequence, sealer.head, str(tmp_path / "spool"))


def left(folder: str) -> list[SealedBatch]:
    return handover.decode((Path(folder) / f"proxy-{INSTANCE}.handover").read_bytes())


def events(batches: list[SealedBatch]) -> list[Event]:
    return [event for one in batches for event in codec.decode(one.payload).batch.events]


def test_how_connections_ended_that_outlived_the_master_is_left_to_the_next(origin: WorkerIdentity) -> None:
    with serving(echo) as server, running(server.backend(), origin=origin) as worker:
        with worker.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            worker.wait_for_event(ConnectionAccepted)
            worker.lose_master()
            client.sendall(b"again")
            assert client.recv(5) == b"again"
        assert worker.process.wait(20) == 0
    said = events(left(origin.folder))
    (closed,) = [event for event in said if isinstance(event, ConnectionClosed)]
    assert (closed.bytes_in, closed.bytes_out) == (10, 10)
    assert isinstance(said[-1], ServiceStopped)


def test_what_is_left_is_chained_to_what_the_master_had(origin: WorkerIdentity) -> None:
    with serving(echo) as server, running(server.backend(), origin=origin) as worker:
        with worker.connect() as client:
            worker.wait_for_event(ConnectionAccepted)
            worker.lose_master()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert worker.process.wait(20) == 0
        heard = {batch.sequence: chain.digest(payload) for payload, batch in worker.batches}
    found = left(origin.folder)
    batches = [codec.decode(one.payload).batch for one in found]
    assert [one.message_id for one in found] == [f"{INSTANCE}:{batch.sequence}" for batch in batches]
    digests = heard | {batch.sequence: chain.digest(one.payload) for one, batch in zip(found, batches, strict=True)}
    digests[origin.sequence] = origin.head
    assert [batch.previous for batch in batches] == [digests[batch.sequence - 1] for batch in batches]


def test_what_the_master_never_took_is_left_too(origin: WorkerIdentity) -> None:
    with serving(echo) as server, running(server.backend(), origin=origin, takes=False) as worker:
        with worker.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        worker.wait_for_event(ConnectionClosed)
        worker.lose_master()
        assert worker.process.wait(20) == 0
    kinds = [type(event) for event in events(left(origin.folder))]
    assert ConnectionAccepted in kinds
    assert ConnectionClosed in kinds


def test_a_worker_whose_master_has_everything_leaves_nothing(origin: WorkerIdentity) -> None:
    with serving(echo) as server, running(server.backend(), origin=origin) as worker:
        with worker.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert worker.stop() == 0
    assert not list(Path(origin.folder).iterdir())


def test_a_worker_that_accepts_no_more_uses_no_cpu_for_clients_that_wait_in_a_shared_queue() -> None:
    with serving(echo) as server, running(server.backend()) as worker, worker.connect() as open_client:
        worker.wait_for_event(ConnectionAccepted)
        listening = worker.listening()
        worker.lose_master()
        wait_until(lambda: listening not in worker.links())
        with worker.connect():
            assert worker.share_of_cpu(5.0) < 0.02
            open_client.sendall(b"still served")
            assert open_client.recv(12) == b"still served"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_socket_that_takes_the_number_of_a_closed_listener_gets_none_of_its_events() -> None:
    loop, seen = Loop(), list[int]()
    with socket.create_server(("127.0.0.1", 0)) as held_elsewhere:
        ours = held_elsewhere.dup()
        number = ours.fileno()
        admission = Admission(loop, 1, lambda: None)
        admission.listen(ours, lambda _client: None)
        admission.close(accept_waiting=False)
        turn(loop)
        near, far = socket.socketpair()
        with near, far, socket.create_connection(held_elsewhere.getsockname()):
            assert number == near.fileno()
            loop.watch(number, OUT, seen.append)
            turn(loop)
    assert seen == [OUT]


class Alarm:
    """Ends a turn in which nothing else happens."""

    def __init__(self) -> None:
        self.slot: set[Timed] | None = None

    def on_timer(self) -> None:
        pass


def turn(loop: Loop) -> None:
    loop.set_timer(Alarm(), 0.05)
    loop.turn()
