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
READ_TIMEOUT = 15.0
"""Seconds that a client may leave unread what was sent to it."""

REQUEST_TIMEOUT = 15.0
"""Seconds within which a request must have come, whole, since the connection was made or the last answer was sent.
uvicorn's own timer runs only after an answer, and ends with the first byte. Longer than its 5 seconds for a kept
connection, and enough for a few hundred bytes over a bad line."""

MOST_CONNECTIONS = 512
"""Connections at the same time: 64 streams, and several times what scrapes and status pages need. Beyond that a new one
takes the place of the one that has been without a request for the longest time."""

FILES = 4096
"""Open files that this process wants: the connections, the bus, the pushes. 1024 is what a shell gives."""


def listen(settings: GatewaySettings) -> socket.socket:
    """The socket of the admin port. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in settings.admin_address else socket.AF_INET
    try:
        return socket.create_server((settings.admin_address, settings.admin_port), family=family)
    except OSError as error:
        check_free("--admin-port", settings.admin_port, settings.admin_address)
        raise PortTakenError(f"--admin-port {settings.admin_port}: {error.strerror}; choose another") from None


def raise_file_limit() -> None:
    """Allow this process enough open files, if it may have them."""
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
    """A client that sends no request, or reads nothing, for a while is cut off: it would hold a connection for ever."""

    _cut: asyncio.TimerHandle | None = None
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self._cut or self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._keep()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._keep()
        if self._due:
            self._due.cancel()

    def _await_request(self) -> None:
        """The timer runs from when a request is awaited until it is here, its body included."""
        is_awaited = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if is_awaited and not self._due:
            self._due = self.loop.call_later(REQUEST_TIMEOUT, self.transport.abort)
        elif self._due and not is_awaited:
            self._due.cancel()
            self._due = None

    def _make_room(self) -> None:
        """Cut off who has been without a request for the longest time; that may be this one."""
        others = [one for one in self.connections if isinstance(one, Protocol) and not one.transport.is_closing()]
        waiting = [(one._due.when(), one) for one in others if one._due]
        _, longest = min(waiting, key=lambda pair: pair[0])
        longest.transport.abort()

    def _keep(self) -> None:
        if self._cut:
            self._cut.cancel()
            self._cut = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's own."""
        yield

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Also ends connections whose client does not read, so that stopping takes no longer than it must."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol) and connection.flow.write_paused:
                connection.transport.abort()
        await super().shutdown(sockets)
