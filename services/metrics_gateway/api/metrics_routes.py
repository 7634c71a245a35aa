"""The routes for monitoring: metrics and health, as plain text."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec

from services.metrics_gateway.api.dependencies import InjectedGateway
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.projection import Projection

TELEMETRY_IS_OFF = "Telemetry is off: start Longshore with --telemetry (or --otlp-endpoint) to have metrics here.\n"

_NOT_YET = {503: ResponseSpec(str, generate_examples=False, description="Not yet", media_type=MediaType.TEXT)}
_OFF = {404: ResponseSpec(str, generate_examples=False, description="Telemetry is off", media_type=MediaType.TEXT)}


@get(
    "/metrics",
    opt={"access": "metrics"},
    responses=specs(401, 421) | _OFF | _NOT_YET,
    media_type=MediaType.TEXT,
    sync_to_thread=False,
)
def metrics(request: Request[Any, Any, Any], gateway: InjectedGateway) -> Response[str] | Response[bytes]:
    """Return all metrics as Prometheus text, or as OpenMetrics for clients that accept it."""
    if not gateway.settings.telemetry_enabled:
        return _text(TELEMETRY_IS_OFF, 404)
    if not gateway.projection.is_caught_up:
        return _catching_up(gateway.projection)
    headers = request.headers
    exposition = gateway.exporter.expose(headers.get("accept", ""), headers.get("accept-encoding", ""))
    return Response(exposition.body, headers=exposition.headers)


@get("/healthz/live", opt={"access": "open"}, media_type=MediaType.TEXT, sync_to_thread=False)
def healthz_live() -> Response[str]:
    """Return 200 while the gateway runs."""
    return _text("ok\n", 200)


@get("/healthz/ready", opt={"access": "open"}, responses=_NOT_YET, media_type=MediaType.TEXT, sync_to_thread=False)
def healthz_ready(gateway: InjectedGateway) -> Response[str]:
    """Return 200 once the log is read."""
    return _text("ok\n", 200) if gateway.projection.is_caught_up else _catching_up(gateway.projection)


def _text(text: str, status_code: int) -> Response[str]:
    return Response(text, status_code=status_code, media_type=MediaType.TEXT)


def _catching_up(projection: Projection) -> Response[str]:
    progress = f"{projection.folded} of {projection.backlog} messages" if projection.backlog else "nothing yet"
    return _text(f"Reading the event log ({progress}): try again in a moment.\n", 503)


HANDLERS = [metrics, healthz_live, healthz_ready]
