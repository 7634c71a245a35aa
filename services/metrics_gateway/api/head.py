"""HEAD: the answer to GET, without the body."""

from __future__ import annotations

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send


def with_head(app: ASGIApp) -> ASGIApp:
    """Return an application that also answers HEAD on each route that has GET, under the same rules."""

    async def answer(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["method"] != "HEAD":
            await app(scope, receive, lambda message: send(_allowing_head(message)))
        else:
            asked: Any = {**scope, "method": "GET"}
            await app(asked, receive, _without_body(send))

    return answer


def _without_body(send: Send) -> Send:
    """Send an empty body only. A stream then sees the end of the connection as from a client that has gone."""
    is_over = False

    async def send_head(message: Message) -> None:
        nonlocal is_over
        if message["type"] != "http.response.body":
            await send(_allowing_head(message))
        elif not is_over:
            is_over = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _allowing_head(message: Message) -> Message:
    """List HEAD beside GET in an Allow header."""
    if message["type"] == "http.response.start":
        message["headers"] = [
            (name, value.replace(b"GET", b"GET, HEAD") if name.lower() == b"allow" else value)
            for name, value in message["headers"]
        ]
    return message
