"""Steady traffic: one connection for each request; every answer is checked and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import msgspec

PAUSE = 0.02
ANSWER_TIMEOUT = 15.0


class Traffic(msgspec.Struct):
    """The count of the clients. `connections`: those that the proxy accepted, which is every successful connect."""

    connections: int = 0
    requests: int = 0
    failures: list[str] = []
    releases: Counter[str] = msgspec.field(default_factory=Counter)


class TrafficClient:
    """A number of clients that send requests until stopped."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.traffic = Traffic()
        self._port = port
        self._clients = clients
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Send requests until `stop`; the requests in progress then are finished."""
        await asyncio.gather(*(self._ask_on() for _ in range(self._clients)))

    def stop(self) -> None:
        """Send no more requests."""
        self._stopping.set()

    async def _ask_on(self) -> None:
        while not self._stopping.is_set():
            await self._ask()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._stopping.wait()

    async def _ask(self) -> None:
        self.traffic.requests += 1
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await self._exchange()
            self.traffic.releases[release_of(answer)] += 1
        except (OSError, TimeoutError, ValueError) as error:
            self.traffic.failures.append(f"{type(error).__name__}: {error}")

    async def _exchange(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.traffic.connections += 1
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def release_of(answer: bytes) -> str:
    """Return the release that answered. Raises ValueError for a failed or incomplete answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0] or not body.endswith(b"\n"):
        raise ValueError(f"not a whole answer: {answer[:60]!r}")
    return body.decode().rsplit(maxsplit=1)[-1]
