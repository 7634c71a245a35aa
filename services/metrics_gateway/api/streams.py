"""Server-sent events: their format, their heartbeats, and the limit of open streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send

from services.common import tasks

MOST = 64
"""Streams that may be open at the same time."""

HEARTBEAT = 10.0
"""Seconds of silence after which a comment shows client and proxies that the stream is alive."""

RETRY = 2000
"""Milliseconds that a client is asked to wait before it connects again."""

TURNS = 2
"""Streams that decode a message between two turns of the event loop. That takes a millisecond or two each, so 64
clients that read the past delay the fold no longer than a request does."""

MEDIA_TYPE = "text/event-stream"

COMMENT = b":\n\n"


class Streams:
    """The open streams: `MOST` at most. `TURNS` of them prepare data at a time."""

    def __init__(self) -> None:
        self.open = 0
        self._turns = asyncio.Semaphore(TURNS)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count an open stream while inside. Raises HTTPException 503 when there are too many."""
        if self.open >= MOST:
            raise HTTPException(
                status_code=503, detail=f"{MOST} streams are open: close one", headers={"retry-after": "5"}
            )
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Do work that blocks the event loop inside. All other tasks get a turn before the next."""
        async with self._turns:
            yield
            await asyncio.sleep(0)


def limited(app: ASGIApp) -> ASGIApp:
    """Return a middleware that counts a stream from its admission to the end of its response."""

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        streams: Streams = scope["litestar_app"].state.gateway.streams
        with streams.admitted():
            await app(scope, receive, send)

    return count


def refuse_foreign_pages(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Raise HTTPException 403 for a web page of another site: it can read nothing, and would take up streams."""
    if connection.headers.get("sec-fetch-site", "").lower() == "cross-site":
        raise HTTPException(status_code=403, detail="no stream for a web page of another site")


def answer(content: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> Stream:
    """Return a response that sends `content` as it comes."""
    return Stream(kept_alive(content, stopping), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})


def message(data: Any, event: str = "", identity: str = "") -> bytes:
    """Return one event, its data as JSON, which has no line breaks."""
    lines = [f"id: {identity}"] * bool(identity) + [f"event: {event}"] * bool(event)
    head = "".join(f"{line}\n" for line in lines)
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


async def kept_alive(
    content: AsyncGenerator[bytes, None], stopping: asyncio.Event, heartbeat: float = HEARTBEAT
) -> AsyncGenerator[bytes, None]:
    """Yield `content`, and a comment after each `heartbeat` seconds of silence, until it or the gateway ends."""
    stop = asyncio.ensure_future(stopping.wait())
    coming = asyncio.ensure_future(anext(content, None))
    try:
        yield f"retry: {RETRY}\n\n".encode()
        while not stop.done():
            await asyncio.wait({coming, stop}, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                yield COMMENT
                continue
            chunk = coming.result()
            if chunk is None:
                return
            yield chunk
            coming = asyncio.ensure_future(anext(content, None))
    finally:
        await tasks.cancel(stop, coming)
        await content.aclose()
