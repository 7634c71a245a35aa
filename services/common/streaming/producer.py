"""The producer's side of streams."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from services.common import log
from services.common.bus.connection import Bus
from services.common.errors import LongshoreError
from services.common.streaming import messages
from services.common.streaming.messages import GONE, POLL, Chunks, Close, End, Read, Write

WINDOW = 64
"""Chunks that the reader has not acknowledged, beyond which the source waits."""
LARGEST_ANSWER = 512 << 10
"""Bytes of chunks in one answer; a server takes 1 MiB by default. A chunk must be smaller."""
INPUTS = 16
"""Messages of input that wait for the command; then the sender waits."""
MOST_STREAMS = 32
"""Streams of one service at a time: each holds a window of chunks, and maybe a process."""
STOPPING = 1.0
"""Seconds that a stopping service waits for the readers to see the end."""

Work = Callable[["Stream"], Awaitable[End]]


class Stream:
    """One stream, as its source sees it."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.end: End | None = None
        self.has_ended = asyncio.Event()
        self.is_left = asyncio.Event()
        """The reader has left, after the end or before it."""
        self._chunks: deque[bytes] = deque()
        self._acknowledged = 0
        self._input: asyncio.Queue[Write] = asyncio.Queue(INPUTS)
        self._received = 0
        self._accepting = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._heard = asyncio.get_running_loop().time()

    async def send(self, chunk: bytes) -> None:
        """Send a chunk. Waits while the reader has not acknowledged WINDOW chunks."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._chunks) < WINDOW)
            self._chunks.append(chunk)
            self._changed.notify_all()

    async def receive(self) -> Write:
        """Return the next input of the reader."""
        return await self._input.get()

    async def finish(self, end: End) -> None:
        """End the stream; the first end counts. The reader still gets the chunks before it."""
        async with self._changed:
            self.end = self.end or end
            self.has_ended.set()
            self._changed.notify_all()

    async def silence(self) -> None:
        """Return when the reader has left or was not heard for GONE seconds."""
        loop = asyncio.get_running_loop()
        while (left := self._heard + GONE - loop.time()) > 0 and not self.is_left.is_set():
            try:
                async with asyncio.timeout(left):
                    await self.is_left.wait()
            except TimeoutError:
                pass

    async def answer(self, payload: bytes, _: Mapping[str, str]) -> bytes:
        """Answer one request of the reader."""
        self._heard = asyncio.get_running_loop().time()
        try:
            request = messages.request(payload)
        except msgspec.MsgspecError as error:
            return messages.encode(Chunks(end=End(1, f"not a request of a stream: {error}")))
        match request:
            case Read(after=after, wait=wait):
                return messages.encode(await self._read(after, wait))
            case Write():
                return messages.encode(Chunks(taken=await self._accept(request)))
            case Close():
                self.is_left.set()
        return messages.encode(Chunks())

    async def _read(self, after: int, wait: bool) -> Chunks:
        async with self._changed:
            while self._chunks and self._acknowledged < after:
                self._chunks.popleft()
                self._acknowledged += 1
            self._changed.notify_all()
            if not wait:
                return Chunks()
            try:
                async with asyncio.timeout(POLL):
                    await self._changed.wait_for(lambda: bool(self._chunks) or self.end is not None)
            except TimeoutError:
                return Chunks()
            chosen = _fitting(self._chunks)
            return Chunks(chosen, self.end if len(chosen) == len(self._chunks) else None)

    async def _accept(self, message: Write) -> int:
        """Take an input once, however often it is sent. Return how many are taken: all, once the stream has ended."""
        if self.end:
            return message.sequence
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL), self._accepting:
                if message.sequence == self._received + 1:
                    await self._input.put(message)
                    self._received += 1
        return self._received


def _fitting(chunks: deque[bytes]) -> list[bytes]:
    chosen: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if chosen and size > LARGEST_ANSWER:
            break
        chosen.append(chunk)
    return chosen


class Streams:
    """The open streams of a service. `subject` returns the subject of a stream by its id."""

    def __init__(self, bus: Bus, subject: Callable[[str], str]) -> None:
        self._bus = bus
        self._subject = subject
        self._running: dict[asyncio.Task[None], Stream] = {}
        self._log = log.get(bus.service)

    async def open(self, work: Work) -> str:
        """Start `work` with a new stream, and return the stream's id. `work` is cancelled when the reader is gone.

        Raises LongshoreError when too many streams are open.
        """
        if len(self._running) >= MOST_STREAMS:
            raise LongshoreError(f"{MOST_STREAMS} streams are open already: end one of them, then ask again")
        stream = Stream()
        subscription = await self._bus.respond(self._subject(stream.id), stream.answer, is_repeatable=True)

        async def run() -> None:
            try:
                await self._run(stream, work)
            finally:
                await self._bus.stop_responding(subscription)

        task = asyncio.create_task(run(), name=f"stream {stream.id}")
        self._running[task] = stream
        task.add_done_callback(lambda done: self._running.pop(done, None))
        return stream.id

    async def close(self, reason: str) -> None:
        """End all streams, and give their readers the time to see why."""
        running = dict(self._running)
        for stream in running.values():
            await stream.finish(End(1, reason))
        if running:
            await asyncio.wait(running, timeout=STOPPING)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, stream: Stream, work: Work) -> None:
        working = asyncio.create_task(self._work(stream, work), name=f"source of {stream.id}")
        silence = asyncio.create_task(stream.silence(), name=f"reader of {stream.id}")
        ended = asyncio.create_task(stream.has_ended.wait(), name=f"end of {stream.id}")
        try:
            await asyncio.wait((silence, ended), return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await silence
        finally:
            for task in (working, silence, ended):
                task.cancel()
            await asyncio.gather(working, silence, ended, return_exceptions=True)

    async def _work(self, stream: Stream, work: Work) -> None:
        try:
            end = await work(stream)
        except LongshoreError as error:
            end = End(1, str(error))
        except Exception:
            self._log.exception("a stream failed")
            end = End(1, "an internal error, which is in the service's log")
        await stream.finish(end)
