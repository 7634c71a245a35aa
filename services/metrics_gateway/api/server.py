"""The admin port: its socket, and the HTTP server on it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.errors import PortTakenError
from services.common.process.ports import check_free
from services.metrics_gateway.settings import GatewaySettings

STOP_TIMEOUT = 2
"""Seconds for open requests when the service stops."""

READ_TIMEOUT = 15.0
"""Seconds that a client may leave data unread."""

REQUEST_TIMEOUT = 15.0
"""Seconds for a complete request, from the connection or from the last answer. uvicorn's own timer runs only after an
answer, and ends with the first byte. This is longer than its 5 seconds of keep-alive, and enough for a few hundred
bytes over a bad line."""

MOST_CONNECTIONS = 512
"""Connections at the same time: 64 streams, and several times the need of scrapes and status pages. Beyond that, a new
one replaces the one that has been without a request for the longest time."""

FILES = 4096
"""Open files that this process wants: the connections, the bus, the pushes. The default of a shell is 1024."""


def listen(settings: GatewaySettings) -> socket.socket:
    """Return the socket of the admin port. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in settings.admin_address else socket.AF_INET
    try:
        return socket.create_server((settings.admin_address, settings.admin_port), family=family)
    except OSError as error:
        check_free("--admin-port", settings.admin_port, settings.admin_address)
        raise PortTakenError(f"--admin-port {settings.admin_port}: {error.strerror}; choose another") from None


def raise_file_limit() -> None:
    """Raise the limit of open files for this process, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(app: ASGIApp, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Answer requests until `stopping` is set, in this event loop."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_TIMEOUT,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="admin api")
    try:
        await stopping.wait()
    finally:
        server.should_exit = True
        await serving


class Protocol(H11Protocol):
    """HTTP/1.1 that closes connections of clients that send no request, or read nothing, for a while."""

    _cut: asyncio.TimerHandle | None = None
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the timer of the first request. Close another connection if there are too many."""
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Stop the timer when the request is complete."""
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        """Start the timer of the next request."""
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        """Start the timer of a client that does not read."""
        super().pause_writing()
        self._cut = self._cut or self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer of a client that reads again."""
        super().resume_writing()
        self._keep_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        self._keep_connection()
        if self._due:
            self._due.cancel()

    def _await_request(self) -> None:
        """Run the timer exactly while a request, with its body, is incomplete."""
        is_awaited = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if is_awaited and not self._due:
            self._due = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        elif self._due and not is_awaited:
            self._due.cancel()
            self._due = None

    def _make_room(self) -> None:
        """Close the connection that has been without a request for the longest time, maybe this one."""
        others = [one for one in self.connections if isinstance(one, Protocol) and not one.transport.is_closing()]
        waiting = [(one._due.when(), one) for one in others if one._due]
        _, longest = min(waiting, key=lambda pair: pair[0])
        longest.transport.abort()

    def _keep_connection(self) -> None:
        if self._cut:
            self._cut.cancel()
            self._cut = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Also close connections of clients that do not read, so that stopping takes no longer."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol) and connection.flow.write_paused:
                connection.transport.abort()
        await super().shutdown(sockets)
