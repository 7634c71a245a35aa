"""The engine's log of a container."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from services.common.errors import EngineError
from services.deployer.runtime.docker.containers import GRACE, Containers
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.output import frames
from services.deployer.runtime.docker.output.frames import Demultiplexer, Lines, Stamped
from services.deployer.runtime.entry import Entry

LOOK = 0.5
"""Seconds until a container is inspected whose log has ended, and until its log is read again."""


class _Position:
    """The place behind the lines that are sent: the time of the last one, and how many of them have this time.

    The engine can begin at a time only, so it sends these lines again.
    """

    def __init__(self, since: int) -> None:
        self.last = since
        self.count = 0

    def add(self, line: Stamped) -> None:
        """Move behind a line."""
        if line.nanoseconds > self.last:
            self.last, self.count = line.nanoseconds, 0
        self.count += line.nanoseconds == self.last


async def entries(
    engine: Engine, container: str, has_terminal: bool, since: float, tail: int, follow: bool
) -> AsyncGenerator[Entry | None]:
    """Yield the lines of a container, as `Runtime.entries` does. Raises EngineError."""
    began, position = int(time.time() * 1e9), _Position(int(since * 1e9))
    past = _lines(engine, container, has_terminal, position.last, tail, False)
    async with contextlib.aclosing(past):
        async for line in past:
            position.add(line)
            yield Entry(line.time, line.text, line.is_error)
    if not follow:
        return
    yield None
    if not position.count and tail >= 0:
        position.last = began  # nothing older is wanted
    while True:
        seen, last = position.count, position.last
        try:
            present = _lines(engine, container, has_terminal, last, -1, True)
            async with contextlib.aclosing(present):
                async for line in present:
                    if line.nanoseconds <= last and seen > 0:
                        seen -= 1
                        continue
                    position.add(line)
                    yield Entry(line.time, line.text, line.is_error)
        except EngineError as error:
            if error.status == 404:  # it was removed meanwhile
                return
            raise
        # The engine ends the log with each run of the container.
        if not await _runs_again(Containers(engine), container):
            return


async def _runs_again(containers: Containers, name: str) -> bool:
    """Return True as soon as a container runs again, or waits for its engine to restart it; False if it is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + GRACE
    while loop.time() < until:
        await asyncio.sleep(LOOK)
        container = await containers.inspect(name)
        if container is None:
            return False
        if container["State"]["Running"] or container["State"]["Restarting"]:
            return True
    return False


async def _lines(
    engine: Engine, container: str, has_terminal: bool, since: int, tail: int, follow: bool
) -> AsyncGenerator[Stamped]:
    query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
    query |= {"tail": str(tail)} if tail >= 0 else {}
    query |= {"since": frames.since(since)} if since else {}
    stream = await engine.stream("get", f"containers/{container}/logs", query)
    parts, lines = Demultiplexer(has_terminal), Lines()
    try:
        async for data in stream.data():
            for part in parts.feed(data):
                for line in lines.feed(part):
                    yield line
        for line in lines.end():
            yield line
    finally:
        await stream.close()
