"""Sampled connections, and the moments that they tell of."""

from __future__ import annotations

import contextlib
import socket

import pytest

from schemas.events import ConnectionClosed, ConnectionEstablished, ConnectionRefused, ConnectionTraced
from services.common.errors import SettingsError
from services.proxy.messages import Limits
from services.proxy.settings import ProxySettings
from services.proxy.worker.relay.traced import is_sampled
from tests.proxy.backends import echo, nobody, read_all, serving
from tests.proxy.worker.worker_process import running


def swallow(sock: socket.socket) -> None:
    read_all(sock)


def test_a_traced_connection_tells_when_what_happened() -> None:
    with serving(echo) as server, running(server.backend(), limits=Limits(trace_connections=1.0)) as worker:
        with worker.connect() as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"hello"
        (traced,) = worker.wait_for_event(ConnectionTraced)
        (closed,), (established,) = worker.of(ConnectionClosed), worker.of(ConnectionEstablished)
    assert (traced.connection, traced.backend, traced.reason) == (closed.connection, "a", "eof")
    assert (traced.bytes_in, traced.bytes_out) == (5, 5)
    assert (traced.latency, traced.attempts, traced.held) == (established.latency, 1, 0.0)
    assert 0 <= traced.latency <= traced.established <= traced.first_byte <= traced.duration


def test_a_connection_whose_client_got_nothing_has_no_first_byte() -> None:
    with serving(swallow) as server, running(server.backend(), limits=Limits(trace_connections=1.0)) as worker:
        with worker.connect() as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        (traced,) = worker.wait_for_event(ConnectionTraced)
    assert (traced.first_byte, traced.bytes_in, traced.bytes_out) == (-1.0, 5, 0)


def test_a_connection_that_was_held_in_vain_tells_so() -> None:
    with running(limits=Limits(trace_connections=1.0, hold=0.3)) as worker:
        with contextlib.suppress(ConnectionResetError), worker.connect() as client:
            assert client.recv(1) == b""
        (traced,) = worker.wait_for_event(ConnectionTraced)
        (refused,) = worker.of(ConnectionRefused)
    assert (traced.connection, traced.backend, traced.reason) == (refused.connection, "", "no_backend")
    assert (traced.duration, traced.attempts, traced.established) == (refused.duration, 0, -1.0)
    assert 0 < traced.held <= traced.duration


def test_a_connection_whose_dials_failed_tells_so() -> None:
    with running(nobody(), limits=Limits(trace_connections=1.0, hold=0.0)) as worker:
        with contextlib.suppress(ConnectionResetError), worker.connect() as client:
            assert client.recv(1) == b""
        (traced,) = worker.wait_for_event(ConnectionTraced)
    assert (traced.backend, traced.reason, traced.attempts, traced.held) == ("", "dial_failed", 1, 0.0)


def test_without_a_share_no_connection_is_traced() -> None:
    with serving(echo) as server, running(server.backend()) as worker:
        with worker.connect() as client:
            client.shutdown(socket.SHUT_WR)
            read_all(client)
        worker.settled()
        assert worker.stop() == 0
        assert worker.of(ConnectionTraced) == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_about_as_many_are_traced_as_were_asked_for(share: float) -> None:
    chosen = sum(is_sampled(number, share) for number in range(1, 100_001))
    assert chosen == pytest.approx(share * 100_000, rel=0.02)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match=r"--trace-connections .*: use a share from 0 to 1"):
        ProxySettings(trace_connections=share)
