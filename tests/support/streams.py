"""TCP and Unix servers of asyncio whose connections end with them, whatever their handlers do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ACCEPTING = 3
"""Turns of the event loop from the kernel's connection to the call of `accept`."""


class Streams:
    """Handles each connection in a task of its own, and closes it when its handler is done.

    asyncio closes no connection by itself: one whose handler was cancelled before its first step, or that was accepted
    while its server closed, would stay open until the garbage collector finds it, in the middle of another test.
    """

    def __init__(self, handle: Handler) -> None:
        self.port = 0
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def listen(self, address: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        """Accept connections on a port, a free one unless one is named."""
        self._server = await asyncio.start_server(self._accept, address, port, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen_at(self, path: Path) -> None:
        """Accept connections on a Unix socket."""
        self._server = await asyncio.start_unix_server(self._accept, path)

    def cut(self) -> None:
        """End every connection; new ones are accepted."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Accept nothing more, end every connection, and return when all are closed."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for listener in server.sockets:
            server.get_loop().remove_reader(listener.fileno())
        for _ in range(ACCEPTING):  # asyncio leaks a connection that it accepts while its server closes
            await asyncio.sleep(0)
        server.close()
        writers = list(self._tasks.values())
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._run(reader, writer))
        self._tasks[task] = writer
        task.add_done_callback(self._done)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._handle(reader, writer)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task).close()


@contextlib.asynccontextmanager
async def listening(handle: Handler, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The port of a server that ends with the block."""
    streams = Streams(handle)
    await streams.listen(address, port)
    try:
        yield streams.port
    finally:
        await streams.close()


@pytest.fixture(autouse=True)
def no_stream_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a connection open, not the one in which the garbage collector happens to find it."""
    yield
    if inspect.iscoroutinefunction(request.function):
        gc.collect()
