"""Random bytes in random pieces with random ends, both ways through a real worker: every byte arrives, and counts."""

from __future__ import annotations

import queue
import random
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import ConnectionClosed
from tests.proxy.backends import serving
from tests.proxy.worker.worker_process import WorkerProcess, running

SMALL = st.integers(1, 3000)
BULK = st.integers(16_000, 400_000)
CHUNKS = st.lists(st.one_of(SMALL, SMALL, BULK), max_size=12)


class Script:
    """What one side does: sends these chunks, ends its stream at the end, or only when the other has ended its."""

    def __init__(self, seed: int, chunks: list[int], waits: bool) -> None:
        source = random.Random(seed)
        self.chunks = [source.randbytes(size) for size in chunks]
        self.waits = waits
        self.received = bytearray()

    @property
    def sent(self) -> bytes:
        return b"".join(self.chunks)

    def play(self, sock: socket.socket, read_size: int) -> None:
        """Write in a thread and read here, until both directions have ended."""
        other_ended = threading.Event()
        writing = threading.Thread(target=self._write, args=(sock, other_ended))
        writing.start()
        while data := sock.recv(read_size):
            self.received += data
        other_ended.set()
        writing.join()

    def _write(self, sock: socket.socket, other_ended: threading.Event) -> None:
        for chunk in self.chunks:
            sock.sendall(chunk)
        if self.waits:
            other_ended.wait()
        sock.shutdown(socket.SHUT_WR)


class Pair:
    """A worker, and a backend that plays the script that lies ready for it."""

    def __init__(self, worker: WorkerProcess, scripts: queue.Queue[tuple[Script, int]], played: queue.Queue[Script]):
        self.worker = worker
        self.scripts = scripts
        self.played = played


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    scripts: queue.Queue[tuple[Script, int]] = queue.Queue()
    played: queue.Queue[Script] = queue.Queue()

    def play(sock: socket.socket) -> None:
        script, read_size = scripts.get()
        script.play(sock, read_size)
        played.put(script)

    with serving(play) as server, running(server.backend()) as worker:
        yield Pair(worker, scripts, played)
        assert "pipe" in worker.open_files(), "nothing was spliced: the chunks are too small"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    seed=st.integers(0, 2**32),
    up=CHUNKS,
    down=CHUNKS,
    who_waits=st.sampled_from(["client", "backend", "nobody"]),
    client_reads=st.sampled_from([700, 1 << 14, 1 << 20]),
    backend_reads=st.sampled_from([700, 1 << 14, 1 << 20]),
)
def test_every_byte_arrives_in_both_directions_whoever_ends_first(
    pair: Pair, seed: int, up: list[int], down: list[int], who_waits: str, client_reads: int, backend_reads: int
) -> None:
    client = Script(seed, up, who_waits == "client")
    backend = Script(seed + 1, down, who_waits == "backend")
    before = len(pair.worker.of(ConnectionClosed))
    pair.scripts.put((backend, backend_reads))
    with pair.worker.connect() as sock:
        client.play(sock, client_reads)
    assert pair.played.get(timeout=15) is backend
    assert bytes(backend.received) == client.sent
    assert bytes(client.received) == backend.sent
    closed = pair.worker.wait_for_event(ConnectionClosed, before + 1)[-1]
    assert (closed.bytes_in, closed.bytes_out, closed.reason) == (len(client.sent), len(backend.sent), "eof")
