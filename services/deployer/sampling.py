"""Samples of the resources that replicas use, for the log."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping

from schemas.events import ReplicasSampled
from services.common.process.lifecycle import Context
from services.deployer.runtime.protocol import Runtime, Usage

INTERVAL = 15.0
"""Seconds between two samples, as between two scrapes of Prometheus: more often would be seen by none."""
FIRST = 2.0
"""Seconds until the first sample of a deployer: its replicas have been adopted, or begin to start."""
MOST = 250
"""Replicas of one event. With names of 120 characters, it has 200 KB, and a message may have 1 MB."""


async def sample(context: Context, app: str, runtime: Runtime) -> None:
    """Publish what replicas use, until cancelled."""
    pause = FIRST
    while True:
        await asyncio.sleep(pause)
        pause = INTERVAL
        for event in events(time.time(), await runtime.usage()):
            context.record(event, app)


def events(now: float, used: Mapping[str, Usage]) -> Iterator[ReplicasSampled]:
    """Yield the events that hold all samples."""
    names = iter(sorted(used))
    while part := list(itertools.islice(names, MOST)):
        yield ReplicasSampled(
            now,
            cpu={name: used[name].cpu for name in part},
            memory={name: used[name].memory for name in part},
            memory_limit={name: limit for name in part if (limit := used[name].memory_limit) is not None},
            received={name: count for name in part if (count := used[name].received) is not None},
            sent={name: count for name in part if (count := used[name].sent) is not None},
            restarts={name: count for name in part if (count := used[name].restarts)},
        )
