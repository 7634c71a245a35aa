"""Follows the output of a replica in its files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from services.deployer.runtime.entry import Entry
from services.deployer.runtime.output.log_file import OutputLog
from services.deployer.runtime.replica_dir import ReplicaDirectory

POLL = 0.2
"""Seconds between two looks at files that have not grown. It is the delay of `longshore logs -f`."""


async def entries(
    folder: ReplicaDirectory, since: float, tail: int, follow: bool, has_ended: Callable[[], bool]
) -> AsyncGenerator[Entry | None]:
    """Yield the lines in the files, as `Runtime.entries` does. `has_ended`: nothing more will be written."""
    log = await asyncio.to_thread(OutputLog, folder, since, tail)
    is_new = False
    try:
        while True:
            is_over = not follow or has_ended()  # before the read, so that nothing can come after it
            if found := await asyncio.to_thread(log.read):
                for entry in found:
                    yield entry
                continue
            if is_over:
                for entry in await asyncio.to_thread(log.rest):
                    yield entry
                return
            if not is_new:
                is_new = True
                yield None
            await asyncio.sleep(POLL)
    finally:
        log.close()
