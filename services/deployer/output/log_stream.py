"""The stream of `longshore logs`: the output of replicas as chunks of lines."""

from __future__ import annotations

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


async def read(stream: Stream, outputs: Outputs, wanted: ReadLogs) -> End:
    """Send the lines that a reader wants. Raises LongshoreError when there is no such output.

    An application that is followed as a whole is followed until the reader leaves: replicas end and start again.
    """
    replicas = choose(await outputs.kept(), wanted.replicas, wanted.previous)
    since = time.time() - wanted.ago if wanted.ago else wanted.since
    merger = Merger(outputs, since, wanted.follow)
    try:
        async with contextlib.aclosing(_batches(merger.past(replicas, wanted.tail))) as past:
            async for batch in past:
                await stream.send(encode_lines(batch))
        if wanted.follow:
            if not wanted.replicas and not wanted.previous:
                merger.watch()
            async with contextlib.aclosing(merger.present()) as present:
                async for batch in present:
                    for part in _parts(batch):
                        await stream.send(encode_lines(part))
    finally:
        await merger.close()
    return End(0, "all replicas have ended" if wanted.follow else "")


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
