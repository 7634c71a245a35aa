"""The reader's side of streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.common import tasks
from services.common.bus.connection import Bus
from services.common.errors import BusError, DeniedError
from services.common.streaming import messages
from services.common.streaming.messages import GONE, POLL, Chunks, Close, End, Read, Write

ANSWER = POLL + 2.0
"""Seconds for the answer to one request."""
RETRY = 0.2
CLOSING = 1.0


class Reader:
    """The reader of one stream. `subject`: that of the stream. `producer`: its service in words, for errors."""

    def __init__(self, bus: Bus, subject: str, producer: str) -> None:
        self._bus = bus
        self._subject = subject
        self._producer = producer
        self._taken = 0
        self._sent = 0
        self._writing = asyncio.Lock()

    async def read(self) -> AsyncIterator[bytes | End]:
        """Yield the chunks, and the end as the last. Raises BusError when the producer is gone.

        However long the caller takes for a chunk, the producer waits.
        """
        while True:
            answer = await self._request(Read(self._taken))
            if answer.chunks:
                alive = asyncio.create_task(self._stay_alive(), name="alive")
                try:
                    for chunk in answer.chunks:
                        yield chunk
                        self._taken += 1
                finally:
                    await tasks.cancel(alive)
            if answer.end:
                yield answer.end
                return

    async def write(self, data: bytes = b"", is_end: bool = False, rows: int = 0, columns: int = 0) -> None:
        """Send input, and return when the producer has taken it, or has ended. Raises BusError when it is gone."""
        async with self._writing:
            self._sent += 1
            message = Write(self._sent, data, is_end, rows, columns)
            while (await self._request(message)).taken < message.sequence:
                pass

    async def close(self) -> None:
        """Leave the stream, which ends its source."""
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._bus.ask(self._subject, messages.encode(Close()), CLOSING)

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            with contextlib.suppress(BusError):  # the next request reports it
                await self._request(Read(self._taken, wait=False))

    async def _request(self, request: Read | Write) -> Chunks:
        """Repeat a request until it is answered, for GONE seconds: a connection may be lost and come back."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GONE
        while True:
            try:
                return messages.chunks(await self._bus.ask(self._subject, messages.encode(request), ANSWER))
            except DeniedError:
                raise
            except BusError as error:
                if loop.time() > until:
                    raise BusError(f"{self._producer} is gone: the output ends here ({error})") from None
            await asyncio.sleep(RETRY)
