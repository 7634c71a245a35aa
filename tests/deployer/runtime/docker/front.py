"""A real registry behind a front that a test can spoil, for the deployer and for the engine on their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from tests.deployer.registry.oci.hostile import Hostile, Request, read

TLS_HANDSHAKE = b"\x16"

Spoil = Callable[[Request], bytes | None]
"""The bytes to answer a request with instead; None: as the registry does."""

KEPT = ("content-type", "content-length", "docker-content-digest", "etag", "link")


class Front(Hostile):
    """`spoil` decides which answers of the registry at `target` do not go through as they are."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.spoil: Spoil = lambda request: None
        self.answer = self._answer
        self._registry = httpx.Client(base_url=f"http://{target}", trust_env=False)

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        self._registry.close()

    def passes(self) -> None:
        """Go back to what the registry says."""
        self.spoil = lambda request: None

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        start = await reader.readexactly(1)
        if start == TLS_HANDSHAKE:
            raise ConnectionError("engines try TLS first: it is not spoken here")
        return await read(reader, start)

    def _answer(self, request: Request) -> bytes:
        spoilt = self.spoil(request)
        return self.true(request) if spoilt is None else spoilt

    def true(self, request: Request) -> bytes:
        """What the registry answers."""
        headers = {name: value for name, value in request.headers.items() if name in ("accept", "if-none-match")}
        answer = self._registry.request(request.method, request.target, headers=headers)
        kept = [f"{name}: {value}" for name, value in answer.headers.items() if name in KEPT]
        head = [f"HTTP/1.1 {answer.status_code} Status", "Connection: close", *kept]
        return ("\r\n".join(head) + "\r\n\r\n").encode() + answer.content


def is_look(request: Request) -> bool:
    return request.path.endswith("/tags/list")


def is_resolution(request: Request) -> bool:
    """By us, with HEAD or with GET."""
    return request.headers.get("user-agent") == "longshore" and "/manifests/" in request.path


def is_pull(request: Request) -> bool:
    """By an engine: it says who it is."""
    is_engine = request.headers.get("user-agent", "").startswith("docker/")
    return is_engine and ("/manifests/" in request.path or "/blobs/" in request.path)
