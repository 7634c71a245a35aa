"""The admin API: metrics, status and health of the gateway over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.enums import MediaType

from services.common.errors import PortTakenError
from services.common.lifecycle import VERSION
from services.common.ports import check_free
from services.metrics_gateway import status
from services.metrics_gateway.live import Live
from services.metrics_gateway.prometheus import Exporter
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.status import Containers, LogStatus, Status

TELEMETRY_IS_OFF = "Telemetry is off: start Longshore with --telemetry (or --otlp-endpoint) to have metrics here.\n"
STOP_TIMEOUT = 2


def listen(settings: GatewaySettings) -> socket.socket:
    """The socket of the admin port. Raises PortTakenError."""
    family = socket.AF_INET6 if ":" in settings.admin_address else socket.AF_INET
    try:
        return socket.create_server((settings.admin_address, settings.admin_port), family=family)
    except OSError as error:
        check_free("--admin-port", settings.admin_port, settings.admin_address)
        raise PortTakenError(f"--admin-port {settings.admin_port}: {error.strerror}; choose another") from None


def create(settings: GatewaySettings, live: Live, exporter: Exporter) -> Litestar:
    """The application over a gateway's state."""

    @get("/metrics", sync_to_thread=False)
    def metrics(request: Request[Any, Any, Any]) -> Response[bytes] | Response[str]:
        if not settings.telemetry_enabled:
            return _text(TELEMETRY_IS_OFF, 404)
        if not live.is_caught_up:
            return _catching_up(live)
        headers = request.headers
        exposition = exporter.expose(headers.get("accept", ""), headers.get("accept-encoding", ""))
        return Response(exposition.body, headers=exposition.headers)

    @get("/api/status", sync_to_thread=False)
    def api_status() -> Status:
        log = LogStatus(live.state.position, live.pending, live.is_caught_up, live.age, live.is_connected)
        return status.status(live.state, log, VERSION)

    @get("/api/containers", sync_to_thread=False)
    def api_containers() -> Containers:
        return status.containers(live.state)

    @get("/healthz/live", sync_to_thread=False)
    def healthz_live() -> Response[str]:
        return _text("ok\n", 200)

    @get("/healthz/ready", sync_to_thread=False)
    def healthz_ready() -> Response[str]:
        return _text("ok\n", 200) if live.is_caught_up else _catching_up(live)

    handlers = [metrics, api_status, api_containers, healthz_live, healthz_ready]
    return Litestar(handlers, openapi_config=None, logging_config=None)


async def serve(app: Litestar, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Answer requests until `stopping` is set, in this event loop."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="admin api")
    try:
        await stopping.wait()
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's own."""
        yield


def _text(text: str, status_code: int) -> Response[str]:
    return Response(text, status_code=status_code, media_type=MediaType.TEXT)


def _catching_up(live: Live) -> Response[str]:
    progress = f"{live.folded} of {live.backlog} messages" if live.backlog else "nothing yet"
    return _text(f"Reading the event log ({progress}): try again in a moment.\n", 503)
