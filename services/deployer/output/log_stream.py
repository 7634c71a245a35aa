"""The stream of `longshore logs`: the output of replicas as chunks of lines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from schemas.output import Line, ReadLogs, encode_lines
from services.common.streaming.messages import End
from services.common.streaming.producer import Stream
from services.deployer.output.choice import choose
from services.deployer.output.merging import Merger
from services.deployer.runtime.protocol import Outputs

CHUNK = 32 << 10
"""Bytes of a chunk: a few hundred lines. 64 of them may wait for the reader."""
LOOK = 1.0
"""Seconds between two looks for replicas that were started while all are followed."""


async def read(stream: Stream, outputs: Outputs, wanted: ReadLogs) -> End:
    """Send the lines that a reader wants. Raises LongshoreError when there is no such output."""
    replicas = choose(await outputs.kept(), wanted.replicas, wanted.previous)
    since = time.time() - wanted.ago if wanted.ago else wanted.since
    merger = Merger(outputs, since, wanted.follow)
    watching: asyncio.Task[None] | None = None
    try:
        async with contextlib.aclosing(_batches(merger.past(replicas, wanted.tail))) as past:
            async for batch in past:
                await stream.send(encode_lines(batch))
        if wanted.follow:
            if not wanted.replicas and not wanted.previous:
                watching = asyncio.create_task(_watch(outputs, merger), name="new replicas")
            async with contextlib.aclosing(merger.present()) as present:
                async for batch in present:
                    for part in _parts(batch):
                        await stream.send(encode_lines(part))
    finally:
        if watching:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await merger.close()
    return End(0, "all replicas have ended" if wanted.follow else "")


async def _watch(outputs: Outputs, merger: Merger) -> None:
    while True:
        await asyncio.sleep(LOOK)
        for one in await outputs.kept():
            if one.runs and one.id not in merger.known:
                await merger.add(one.id)


async def _batches(lines: AsyncGenerator[Line]) -> AsyncGenerator[list[Line]]:
    batch: list[Line] = []
    size = 0
    async with contextlib.aclosing(lines):
        async for line in lines:
            batch.append(line)
            size += len(line.text) + len(line.replica)
            if size > CHUNK:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _parts(lines: list[Line]) -> list[list[Line]]:
    parts: list[list[Line]] = [[]]
    size = 0
    for line in lines:
        if size > CHUNK:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += len(line.text) + len(line.replica)
    return [part for part in parts if part]
