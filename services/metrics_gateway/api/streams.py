"""Server-sent events: the lines, the heartbeats, and how many may be open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar.exceptions import HTTPException
from litestar.response import Stream

MOST = 64
"""Streams that may be open at the same time."""

HEARTBEAT = 10.0
"""Seconds of silence after which a comment tells client and proxies that the stream lives."""

RETRY = 2000
"""Milliseconds that a client is asked to wait before it connects again."""

MEDIA_TYPE = "text/event-stream"

COMMENT = b":\n\n"


class Streams:
    """Counts the open streams."""

    def __init__(self) -> None:
        self.open = 0

    def answer(self, content: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> Stream:
        """A response that sends `content` as it comes. Raises HTTPException 503 when too many are open."""
        if self.open >= MOST:
            raise HTTPException(
                status_code=503, detail=f"{MOST} streams are open: close one", headers={"retry-after": "5"}
            )
        headers = {"x-accel-buffering": "no"}
        return Stream(self._counted(kept_alive(content, stopping)), media_type=MEDIA_TYPE, headers=headers)

    async def _counted(self, content: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            async with aclosing(content):
                async for chunk in content:
                    yield chunk
        finally:
            self.open -= 1


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
