"""Things to probe: real servers on loopback that keep an access log and misbehave on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.routing import Check, Replica
from tests.support.streams import listening

HANG = b""


def answer(status: str, headers: str = "", body: bytes = b"fine") -> bytes:
    """An HTTP/1.1 response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


OK = answer("200 OK")
BROKEN = answer("503 Service Unavailable", body=b"broken")


class Origin:
    """An HTTP server that answers every request with `reply`, logs it, and never closes first unless told to."""

    def __init__(self) -> None:
        self.reply = OK
        self.close = False
        self.reset = False
        self.requests: list[str] = []
        self.connections = 0
        self.delay = 0.0
        self.busy = 0
        self.most_at_once = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while request := await _request(reader):
            self.requests.append(request)
            await self._work()
            writer.write(self.reply)
            if self.close or self.reset:
                break
        if self.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _work(self) -> None:
        self.busy += 1
        self.most_at_once = max(self.most_at_once, self.busy)
        await asyncio.sleep(self.delay)
        self.busy -= 1

    def replica(self, name: str = "web-1", check: Check | None = None) -> Replica:
        return Replica("web", name, "1.0.0", "127.0.0.1", self.port, check or Check("/health", interval=0.05))


async def _request(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


@asynccontextmanager
async def origin(port: int = 0) -> AsyncIterator[Origin]:
    """A server on loopback, on a free port unless one is named; its connections end with it."""
    site = Origin()
    async with listening(site.serve, port=port) as site.port:
        yield site
