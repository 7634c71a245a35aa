"""Whether a container answers, by a connection to its own address, its table of sockets, or its published port."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from services.deployer.runtime.docker import listen_probe
from services.deployer.runtime.docker.listen_probe import Place
from tests.support.patience import patience

NO_PROCESS = 2**22 + 1  # above the largest process id that Linux gives
TIMEOUT = patience(20.0)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::", "127.0.0.9", "::ffff:127.0.0.7"])
def test_the_address_of_a_listener_is_read_from_the_table_of_its_process(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, dualstack_ipv6="ffff" in address) as server:
        port = server.getsockname()[1]
        assert listen_probe.listeners(os.getpid(), port) == {address.removeprefix("::ffff:")}
    assert listen_probe.listeners(os.getpid(), port) == set()
    assert listen_probe.listeners(NO_PROCESS, port) is None


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (set(), "does not listen on port 80"),
        ({"127.0.0.1"}, "listens on 127.0.0.1 inside the container only; bind 0.0.0.0"),
        ({"::1", "10.9.9.9"}, "listens on 10.9.9.9, ::1 inside the container only; bind 0.0.0.0"),
        ({"127.0.0.1", "172.17.0.2"}, ""),
        ({"0.0.0.0"}, ""),
        ({"::"}, ""),
    ],
    ids=["none", "loopback", "others", "loopback-and-its-own", "all", "all-ipv6"],
)
def test_only_an_address_that_is_reached_from_outside_counts(found: set[str], problem: str) -> None:
    assert listen_probe.explain(found, Place(1, 80, "172.17.0.2", "172.17.0.1")) == problem


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def place(server: socket.socket, pid: int, own: str = "", gateway: str = "") -> Place:
    port = server.getsockname()[1]
    return Place(pid, port, own, gateway, ("127.0.0.1", port))


async def test_an_own_address_that_answers_is_enough_whatever_the_table_says(server: socket.socket) -> None:
    assert await listen_probe.problem(place(server, NO_PROCESS, "127.0.0.1", "127.0.0.1"), TIMEOUT) == ""


async def test_an_own_address_that_refuses_is_a_problem_although_the_published_port_accepts(
    server: socket.socket,
) -> None:
    there = place(server, os.getpid(), "127.0.0.2", "127.0.0.1")
    said = await listen_probe.problem(there, TIMEOUT)
    assert said == "listens on 127.0.0.1 inside the container only; bind 0.0.0.0"


async def test_where_this_host_is_not_in_the_network_the_table_decides(server: socket.socket) -> None:
    far = place(server, os.getpid(), "192.0.2.7", "192.0.2.1")
    assert "bind 0.0.0.0" in await listen_probe.problem(far, TIMEOUT)


async def test_where_nothing_can_be_seen_a_connection_that_is_kept_is_an_answer(server: socket.socket) -> None:
    assert await listen_probe.problem(place(server, NO_PROCESS), TIMEOUT) == ""


@pytest.mark.parametrize("reset", [True, False])
async def test_where_nothing_can_be_seen_a_connection_that_is_closed_at_once_is_none(reset: bool) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort() if reset else writer.close()

    proxy = await asyncio.start_server(close, "127.0.0.1", 0)
    async with proxy:
        said = await listen_probe.problem(place(proxy.sockets[0], NO_PROCESS), TIMEOUT)
    assert "closes every connection" in said
