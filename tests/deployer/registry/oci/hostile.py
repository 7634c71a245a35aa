"""An HTTP server that answers as a test says, however wrong, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.streams import Streams


class Request(NamedTuple):
    """Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: str = ""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def form(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.body).items()}


Answer = Callable[[Request], bytes]

HANG = b"\0hang"
DRIP = b"\0drip"


class Hostile:
    """`answer` decides the bytes of each answer; then the connection is closed. HANG: none, ever; DRIP: slowly."""

    def __init__(self, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = lambda request: reply(404)
        self.requests: list[Request] = []
        self.host = ""
        self._address = address
        self._tls = tls
        self._streams = Streams(self._serve)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    async def __aenter__(self) -> Self:
        await self._streams.listen(self._address, ssl=self._tls)
        self.host = f"{self._address}:{self._streams.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._streams.close()

    def cut(self) -> None:
        """End every answer that is not over yet."""
        self._streams.cut()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        return await read(reader)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append(request := await self._read(reader))
            await _write(writer, self.answer(request))


async def read(reader: asyncio.StreamReader, start: bytes = b"") -> Request:
    """A request, of which `start` was read already."""
    head = (start + await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ")
    return Request(method, target, headers, body.decode())


async def _write(writer: asyncio.StreamWriter, answer: bytes) -> None:
    if answer == HANG:
        await asyncio.Event().wait()
    if answer == DRIP:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)
    writer.write(answer)
    await writer.drain()


def reply(status: int, body: str | bytes = b"", **headers: str) -> bytes:
    """An answer as it should be; `_` in a header's name is a dash."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(data)}", "Connection: close", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + data


def tags(*names: str, **headers: str) -> bytes:
    return reply(200, json.dumps({"name": "team/app", "tags": list(names)}), **headers)
