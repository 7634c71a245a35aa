"""The engine behind another socket, which a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.support.streams import Streams


class Relay:
    """`url` leads to the engine's own socket until `cut`, and again after `mend`."""

    def __init__(self, target: str, path: Path) -> None:
        self.url = f"unix://{path}"
        self.connections = self.stuck = 0
        self._target = target.removeprefix("unix://")
        self._path = path
        self._streams = Streams(self._join)
        self._asked: dict[asyncio.StreamReader, bytes] = {}
        self.withheld = b""
        """Requests whose first line has this in it get no answer."""

    def streams(self, path: bytes) -> int:
        """How many connections our side has open whose first request has this in its path."""
        return sum(path in asked for asked in self._asked.values())

    async def mend(self) -> None:
        await self._streams.listen_at(self._path)

    async def cut(self) -> None:
        """Close the socket and everything that goes through it."""
        self._path.unlink(missing_ok=True)
        await self._streams.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        engine_reader, engine_writer = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, engine_writer, True))
                group.create_task(self._copy(engine_reader, writer))
        finally:
            engine_writer.close()
            await asyncio.gather(engine_writer.wait_closed(), return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_request: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if is_request:
                    start = data.partition(b"\r\n")[0]
                    self._asked.setdefault(reader, start)
                    if self.withheld and self.withheld in start:
                        self.stuck += 1
                        await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
            self._asked.pop(reader, None)
            if writer.can_write_eof():
                writer.write_eof()
