"""The engine's log of a container."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator

from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.output import frames
from services.deployer.runtime.docker.output.frames import Demultiplexer, Lines, Stamped
from services.deployer.runtime.entry import Entry


async def entries(
    engine: Engine, container: str, has_terminal: bool, since: float, tail: int, follow: bool
) -> AsyncGenerator[Entry | None]:
    """Yield the lines of a container, as `Runtime.entries` does. Raises EngineError."""
    began, last, count = int(time.time() * 1e9), int(since * 1e9), 0
    past = _lines(engine, container, has_terminal, last, tail, False)
    async with contextlib.aclosing(past):
        async for line in past:
            count = count + 1 if line.nanoseconds == last else 1
            last = max(last, line.nanoseconds)
            yield Entry(line.time, line.text, line.is_error)
    if not follow:
        return
    yield None
    if not count and tail >= 0:
        last = began  # nothing older is wanted
    # The engine begins with the lines of that moment, which were sent already.
    present = _lines(engine, container, has_terminal, last, -1, True)
    async with contextlib.aclosing(present):
        async for line in present:
            if line.nanoseconds <= last and count > 0:
                count -= 1
                continue
            yield Entry(line.time, line.text, line.is_error)


async def _lines(
    engine: Engine, container: str, has_terminal: bool, since: int, tail: int, follow: bool
) -> AsyncGenerator[Stamped]:
    query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
    query |= {"tail": str(tail)} if tail >= 0 else {}
    query |= {"since": frames.since(since)} if since else {}
    stream = await engine.stream("get", f"containers/{container}/logs", query)
    parts, lines = Demultiplexer(has_terminal), Lines(has_terminal)
    try:
        async for data in stream.data():
            for part in parts.feed(data):
                for line in lines.feed(part):
                    yield line
        for line in lines.end():
            yield line
    finally:
        await stream.close()
