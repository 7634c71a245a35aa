"""The outputs of several replicas as one: what was printed before in the order of time, then what comes as it comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable

from schemas.output import Line
from services.deployer.runtime.entry import Entry
from services.deployer.runtime.protocol import Outputs

WAITING = 1000
"""Lines that wait for the reader; beyond that the sources wait."""

Entries = AsyncGenerator[Entry | None]


class Merger:
    """Merges the outputs of replicas. Each replica is added once."""

    def __init__(self, outputs: Outputs, since: float, follow: bool) -> None:
        self.known: set[str] = set()
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

    async def add(self, replica: str) -> None:
        """Add a replica that was started meanwhile, with all that it has printed."""
        self._pump(replica, await self._begin(replica, -1))

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
        self.known.add(replica)
        source = self._outputs.entries(replica, self._since, tail, self._follow)
        return await self._open.enter_async_context(contextlib.aclosing(source))

    def _pump(self, replica: str, source: Entries) -> None:
        self._tasks[replica] = asyncio.create_task(self._copy(replica, source), name=f"output of {replica}")

    async def _copy(self, replica: str, source: Entries) -> None:
        problem: BaseException | None = None
        try:
            async for entry in source:
                if entry:
                    await self._lines.put(_line(replica, entry))
        except Exception as error:  # the reader of the queue raises it
            problem = error
        self._tasks.pop(replica, None)
        await self._lines.put(problem)


def _line(replica: str, entry: Entry) -> Line:
    return Line(replica, entry.time, entry.text, entry.is_error)
