"""Requests to the admin API as spans. W3C trace context comes with the request and goes on to commands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.common import tracing
from services.common.ids import span_id, trace_id
from services.metrics_gateway.state.span import Span

PREFIX = "/api/"
STREAMS = "/stream"
NOT_FOUND = 404
FAILURE = 500


def traced(app: ASGIApp, record: Callable[[Span], None]) -> ASGIApp:
    """Record a span for each request to the application, except streams, scrapes and health checks."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", ""))
        header = _traceparent(scope)
        if not path.startswith(PREFIX) or path.endswith(STREAMS) or not tracing.is_sampled(header):
            await app(scope, receive, send)
            return
        trace, parent = tracing.parse(header) or (trace_id(), "")
        own, status, start = span_id(), FAILURE, time.time()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(_within(scope, tracing.traceparent(trace, own)), receive, sent)
        finally:
            method = str(scope.get("method", ""))
            record(
                Span(
                    trace=trace,
                    id=own,
                    parent=parent,
                    name=f"HTTP {method}" if status == NOT_FOUND else f"HTTP {method} {path}",
                    kind="server",
                    start=start,
                    end=time.time(),
                    attributes={"http.request.method": method, "url.path": path, "http.response.status_code": status},
                    error=f"answered {status}" if status >= FAILURE else "",
                )
            )

    return answer


def _traceparent(scope: Scope) -> str:
    headers = dict(cast("Any", scope).get("headers", []))
    return bytes(headers.get(b"traceparent", b"")).decode("latin-1")


def _within(scope: Scope, traceparent: str) -> Scope:
    """Return the same request with this span as its parent."""
    headers = [(name, value) for name, value in cast("Any", scope)["headers"] if name != b"traceparent"]
    return cast("Scope", {**cast("Any", scope), "headers": [*headers, (b"traceparent", traceparent.encode())]})
