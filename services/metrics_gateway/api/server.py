"""The admin port: its socket, and the HTTP server on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.errors import PortTakenError
from services.common.ports import check_free
from services.metrics_gateway.settings import GatewaySettings

STOP_TIMEOUT = 2
READ_TIMEOUT = 15.0
"""Seconds that a client may leave unread what was sent to it."""


def listen(settings: GatewaySettings) -> socket.socket:
    """The socket of the admin port. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in settings.admin_address else socket.AF_INET
    try:
        return socket.create_server((settings.admin_address, settings.admin_port), family=family)
    except OSError as error:
        check_free("--admin-port", settings.admin_port, settings.admin_address)
        raise PortTakenError(f"--admin-port {settings.admin_port}: {error.strerror}; choose another") from None


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
    """A client that reads nothing for a while is cut off; without that, its answers would wait here for ever."""

    _cut: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self._cut or self.loop.call_later(READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._keep()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._keep()

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
