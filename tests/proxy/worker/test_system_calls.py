"""What a connection costs in system calls, counted by strace."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.events import ConnectionClosed
from services.deployer.runtime import ports
from tests.proxy.backends import echo, serving
from tests.proxy.worker.worker_process import DEADLINE, WorkerProcess, running

MOST_CALLS, MOST_WAITS = 16, 4
COUNT = 10
CALLS = "%network,close,epoll_ctl,epoll_wait,epoll_pwait,ioctl,fcntl,splice,read,write,readv,writev"
WAITS = {"epoll_wait", "epoll_pwait"}


def one_by_one(worker: WorkerProcess, first: int) -> Iterator[int]:
    for number in range(first, first + COUNT):
        with worker.connect() as client:
            client.sendall(b"request")
            assert client.recv(7) == b"request"
        worker.wait_for_event(ConnectionClosed, number)
        yield number


def costs(trace: str, master: int) -> Counter[str]:
    """How often each call was made, without those that concern no connection.

    Those talk to the master, wait in vain, or read a file of /proc now and then.
    """
    calls: Counter[str] = Counter()
    for name, arguments, result in re.findall(r"^(\w+)\((.*)\) += (-?\d+)", trace, re.MULTILINE):
        is_for_master = re.match(rf"{master}\b", arguments)
        is_idle_wait = name in WAITS and (int(result) <= 0 or f"data={{u32={master}," in arguments)
        if not is_for_master and not is_idle_wait and "</proc/" not in arguments:
            calls[name] += 1
    return calls


@pytest.fixture(autouse=True)
def strace() -> None:
    """Skip where strace cannot run, which CI does not accept."""
    try:
        subprocess.run(["strace", "-o", "/dev/null", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"strace cannot run: {error}")


def test_a_connection_costs_at_most_16_system_calls_and_4_waits(tmp_path: Path) -> None:
    """One request and one reply; the client ends first, the backend is on this host as a process's replica is."""
    trace = tmp_path / "trace"
    tracer = ["strace", "-y", "-e", f"trace={CALLS}", "-s", "0", "-o", str(trace)]
    port = ports.free("127.0.0.1", ())
    with serving(echo, port=port) as server, running(server.backend(), takes=False, tracer=tracer) as worker:
        worker.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(DEADLINE))
        list(one_by_one(worker, 1))
        warm = trace.stat().st_size
        list(one_by_one(worker, COUNT + 1))
        calls = costs(trace.read_text()[warm:], worker.master_fd)
    waits = sum(calls.pop(name, 0) for name in WAITS)
    assert waits <= MOST_WAITS * COUNT, waits
    assert calls.total() <= MOST_CALLS * COUNT, calls
    assert calls.total() >= 10 * COUNT, "strace saw too little"
