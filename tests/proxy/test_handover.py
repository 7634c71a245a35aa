"""A worker whose master died leaves what nobody has taken to the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import chain, codec, handover
from schemas.chain import Sealer
from schemas.events import ConnectionAccepted, ConnectionClosed, Event, ServiceStopped
from services.proxy.messages import Origin
from tests.proxy.backends import echo, serving
from tests.proxy.worker_process import running

INSTANCE = "worker"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    sealer = Sealer("proxy", "host", INSTANCE, 1, bytes(32))
    return Origin("host", INSTANCE, sealer.sequence, sealer.head, str(tmp_path / "spool"))


def left(folder: str) -> list[handover.Leftover]:
    return handover.decode((Path(folder) / f"proxy-{INSTANCE}.handover").read_bytes())


def events(leftovers: list[handover.Leftover]) -> list[Event]:
    return [event for one in leftovers for event in codec.decode(one.payload).batch.events]


def test_how_connections_ended_that_outlived_the_master_is_left_to_the_next(origin: Origin) -> None:
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


def test_what_is_left_is_chained_to_what_the_master_had(origin: Origin) -> None:
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


def test_what_the_master_never_took_is_left_too(origin: Origin) -> None:
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


def test_a_worker_whose_master_has_everything_leaves_nothing(origin: Origin) -> None:
    with serving(echo) as server, running(server.backend(), origin=origin) as worker:
        with worker.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert worker.stop() == 0
    assert not list(Path(origin.folder).iterdir())
