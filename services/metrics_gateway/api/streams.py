"""Server-sent events: the lines, the heartbeats, and how many may be open."""

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

MOST = 64
"""Streams that may be open at the same time."""

HEARTBEAT = 10.0
"""Seconds of silence after which a comment tells client and proxies that the stream lives."""

RETRY = 2000
"""Milliseconds that a client is asked to wait before it connects again."""

TURNS = 2
"""A message of the log takes a millisecond or two to decode and to encode again; so that 64 readers of the past do not
hold up the fold for longer than a request does, so many do it between two turns of the event loop."""

MEDIA_TYPE = "text/event-stream"

COMMENT = b":\n\n"


class Streams:
    """The open streams. At most `MOST` are admitted, and `TURNS` of them prepare something at a time."""

    def __init__(self) -> None:
        self.open = 0
        self._turns = asyncio.Semaphore(TURNS)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One is open inside. Raises HTTPException 503 when too many are."""
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
        """Work that holds up the event loop goes inside; everybody else gets their turn before the next."""
        async with self._turns:
            yield
            await asyncio.sleep(0)


def limited(app: ASGIApp) -> ASGIApp:
    """A middleware that counts a stream from its admission until its response is over, whatever ends it."""

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        streams: Streams = scope["litestar_app"].state.gateway.streams
        with streams.admitted():
            await app(scope, receive, send)

    return count


def refuse_foreign_pages(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Raises HTTPException 403 for a page of elsewhere: it could read nothing, and would take up the streams."""
    if connection.headers.get("sec-fetch-site", "").lower() == "cross-site":
        raise HTTPException(status_code=403, detail="no stream for a web page of another site")


def answer(content: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> Stream:
    """A response that sends `content` as it comes."""
    return Stream(kept_alive(content, stopping), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})


def message(data: Any, event: str = "", identity: str = "") -> bytes:
    """One event, its data as JSON, which has no line breaks."""
    lines = [f"id: {identity}"] * bool(identity) + [f"event: {event}"] * bool(event)
    head = "".join(f"{line}\n" for line in lines)
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"


async def kept_alive(
    content: AsyncGenerator[bytes, None], stopping: asyncio.Event, heartbeat: float = HEARTBEAT
) -> AsyncGenerator[bytes, None]:
    """`content` with a comment wherever it is silent for `heartbeat` seconds, until it or the gateway ends."""
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
        stop.cancel()
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await content.aclose()
