"""What this host keeps the proxy from is no backend's fault: none is ejected, and clients wait."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from schemas.events import ConnectionAccepted, ConnectionEstablished, ConnectionRefused, DialFailed
from schemas.routing import Backend
from services.proxy.master import readmission
from services.proxy.messages import Blocked, DialFailure, Limits
from services.proxy.worker.relay import dialing
from tests.proxy.backends import echo, nobody, serving
from tests.proxy.worker.worker_process import WorkerProcess, running

NO_NETWORK = Backend("far", "255.255.255.255", 80)
"""An address to which connect(2) says at once that there is no network."""

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PORT = 20000
SERVER = f"""
import socket, threading
def echo(sock):
    while data := sock.recv(4096):
        sock.sendall(data)
    sock.close()
listener = socket.create_server(("0.0.0.0", {PORT}))
print("listens", flush=True)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""


def unshare() -> None:
    """Give this process a network of its own, with a loopback that is down."""
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def enter(worker: WorkerProcess, *command: str) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--preserve-credentials", "--user"]
    return ["nsenter", "--target", str(worker.process.pid), *user, "--net", *command]


def set_up(worker: WorkerProcess) -> None:
    """Bring the worker's loopback up, with two ports for all that connects to one address."""
    range_ = "/proc/sys/net/ipv4/ip_local_port_range"
    script = f"echo 40000 40001 > {range_} && ip link set lo up"
    subprocess.run(enter(worker, "sh", "-c", script), check=True)


@contextmanager
def server_beside(worker: WorkerProcess) -> Iterator[None]:
    """A backend in the worker's network, on PORT."""
    command = enter(worker, sys.executable, "-c", SERVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "listens\n"
            yield
        finally:
            process.kill()


@contextmanager
def alone(*backends: Backend) -> Iterator[WorkerProcess]:
    """A worker in a network of its own, which its clients still reach; skips where that is forbidden, but in CI."""
    try:
        with running(*backends, limits=Limits(hold=60), preexec=unshare) as worker:
            yield worker
    except subprocess.SubprocessError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no network namespaces here: {error}")


def blocked(worker: WorkerProcess) -> list[Blocked]:
    return [message for message in worker.said if isinstance(message, Blocked)]


def failed(worker: WorkerProcess) -> list[DialFailure]:
    return [message for message in worker.said if isinstance(message, DialFailure)]


def talk(client: socket.socket) -> bytes:
    client.sendall(b"hello")
    return client.recv(5)


def test_a_backend_to_which_there_is_no_network_is_not_ejected_and_others_serve() -> None:
    with serving(echo) as server, running(NO_NETWORK, server.backend()) as worker:
        for _ in range(4):
            with worker.connect() as client:
                assert talk(client) == b"hello"
        worker.wait_for_event(ConnectionEstablished, 4)
        assert {event.attempts for event in worker.of(ConnectionEstablished)} == {1}
        assert blocked(worker) == [Blocked("web", worker.port, "far", os.strerror(errno.ENETUNREACH))]
        assert not failed(worker)
        assert not worker.of(DialFailed)


def test_a_client_waits_for_a_network_as_long_as_for_a_backend() -> None:
    with running(NO_NETWORK, limits=Limits(hold=0.5)) as worker:
        with worker.connect() as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        (refused,) = worker.settled()
        assert isinstance(refused, ConnectionRefused)
        assert refused.reason == "no_backend"
        assert refused.duration >= 0.5


def test_waiting_for_a_network_costs_no_cpu() -> None:
    with running(NO_NETWORK) as worker:
        clients = [worker.connect() for _ in range(200)]
        worker.wait_for(lambda: blocked(worker))
        assert worker.share_of_cpu(1.0) < 0.1
        for client in clients:
            client.close()


def test_clients_are_served_once_the_network_is_there_and_a_port_is_free() -> None:
    with alone(Backend("near", "127.0.0.1", PORT)) as worker, server_beside(worker):
        with worker.connect() as first, worker.connect() as second:
            worker.wait_for(lambda: blocked(worker))
            set_up(worker)
            for client in (first, second):
                assert talk(client) == b"hello"
            with worker.connect() as third:
                third.sendall(b"hello")
                worker.wait_for_event(ConnectionAccepted, 3)
                first.close()
                assert third.recv(5) == b"hello"
        worker.wait_for_event(ConnectionEstablished, 3)
        assert not failed(worker)
        assert not worker.of(DialFailed)


def test_a_worker_never_connects_to_itself() -> None:
    own = Backend("own", "127.0.0.1", 40000)
    with alone() as worker:
        set_up(worker)
        with worker.connect():
            worker.route(own)
            (failure,) = worker.wait_for_event(DialFailed)
            assert failure.reason == "refused"
            assert not worker.of(ConnectionEstablished)


def test_a_socket_that_is_connected_to_itself_was_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        assert dialing.answer(sock, sock.getsockname(), has_error=False) == errno.ECONNREFUSED


@pytest.mark.parametrize("problem", [errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EINVAL])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_of_this_host_is_no_fault_of_a_backend(problem: int, at_once: bool) -> None:
    assert dialing.fault(problem, at_once) == ""


def test_a_backend_that_refuses_or_whose_host_does_not_answer_is_at_fault() -> None:
    assert [dialing.fault(problem, False) for problem in (errno.ECONNREFUSED, errno.EHOSTUNREACH)] == [
        "refused",
        "unreachable",
    ]
    assert dialing.fault(errno.EHOSTUNREACH, True) == "", "a route of this host that forbids it"


@pytest.mark.parametrize("address", [("127.0.0.1", 70000), ("127.0.0.1", -1), ("fe80::1%nosuch", 80), ("web", 80)])
def test_what_is_no_address_is_an_error_not_an_exception(address: tuple[str, int]) -> None:
    sock, problem = dialing.dial(address)
    assert sock is None
    assert problem


async def test_a_trial_tells_a_backend_that_answers_from_one_that_refuses_and_from_trouble_here() -> None:
    gone = nobody()
    with serving(echo) as server:
        assert await readmission.dial(("127.0.0.1", server.port), 5) == "answered"
    assert await readmission.dial((gone.host, gone.port), 5) == "failed"
    assert await readmission.dial((NO_NETWORK.host, NO_NETWORK.port), 5) == "blocked"
