"""The outputs of several replicas as one: what was printed before in the order of time, then what comes as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any

from schemas.output import Line
from services.deployer.runtime.entry import Entry
from services.deployer.runtime.protocol import Outputs

LOOK = 1.0
"""Seconds between two looks for replicas that were started while all are followed."""
WAITING = 1000
"""Lines that wait for the reader; beyond that the sources wait."""

Entries = AsyncGenerator[Entry | None]


class Merger:
    """Merges the outputs of replicas. Each replica is added once."""

    def __init__(self, outputs: Outputs, since: float, follow: bool) -> None:
        self._known: set[str] = set()
        self._outputs = outputs
        self._since = since
        self._follow = follow
        self._lines: asyncio.Queue[Line | BaseException | None] = asyncio.Queue(WAITING)
        self._open = contextlib.AsyncExitStack()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Close all outputs."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._open.aclose()

    async def past(self, replicas: Iterable[str], tail: int) -> AsyncGenerator[Line]:
        """Yield what was printed so far, the oldest line of all replicas first. Then `present` continues."""
        sources = {replica: await self._begin(replica, tail) for replica in replicas}
        heads = {replica: await anext(source, None) for replica, source in sources.items()}
        while ready := {replica: head for replica, head in heads.items() if head}:
            replica = min(ready, key=lambda one: ready[one].time)
            yield _line(replica, ready[replica])
            heads[replica] = await anext(sources[replica], None)
        if self._follow:
            for replica, source in sources.items():
                self._pump(replica, source)

    def watch(self) -> None:
        """Add each replica that is started from now on, with all that it prints. Then `present` has no end."""
        self._run("", self._add_started(), "new replicas")

    async def present(self) -> AsyncGenerator[list[Line]]:
        """Yield lines as they are printed, until all replicas have ended. Raises what an output raises."""
        while True:
            found = [await self._lines.get()]
            while not self._lines.empty():
                found.append(self._lines.get_nowait())
            for one in found:
                if isinstance(one, BaseException):
                    raise one
            yield [one for one in found if isinstance(one, Line)]
            if not self._tasks and self._lines.empty():
                return

    async def _begin(self, replica: str, tail: int) -> Entries:
        self._known.add(replica)
        source = self._outputs.entries(replica, self._since, tail, self._follow)
        return await self._open.enter_async_context(contextlib.aclosing(source))

    def _pump(self, replica: str, source: Entries) -> None:
        self._run(replica, self._copy(replica, source), f"output of {replica}")

    def _run(self, key: str, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks[key] = asyncio.create_task(self._reported(key, work), name=name)

    async def _reported(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Do some work, and put its end, or its error, behind the lines: `present` waits for it."""
        problem: BaseException | None = None
        try:
            await work
        except Exception as error:  # the reader of the queue raises it
            problem = error
        self._tasks.pop(key, None)
        await self._lines.put(problem)

    async def _copy(self, replica: str, source: Entries) -> None:
        async for entry in source:
            if entry:
                await self._lines.put(_line(replica, entry))

    async def _add_started(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for one in await self._outputs.kept():
                if one.runs and one.id not in self._known:
                    self._pump(one.id, await self._begin(one.id, -1))


def _line(replica: str, entry: Entry) -> Line:
    return Line(replica, entry.time, entry.text, entry.is_error)
