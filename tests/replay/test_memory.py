"""A replay streams: its memory grows with the series of a log, not with its messages."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.replay.exposition import Series
from services.replay.log.source import events, from_file
from services.replay.replay import Replay, View
from tests.replay.recording import records, write

FEW, MANY = 1000, 6000
SPARE = 256 << 10
"""Bytes by which the peak may vary; a batch is 1,000 bytes."""


def log(tmp_path: Path, batches: int) -> str:
    payloads = [codec.encode(Batch("proxy", "h", "shop", "p", n, _events(n))) for n in range(1, batches + 1)]
    return str(write(tmp_path / f"{batches}.log", records(payloads)))


def _events(batch: int) -> list[e.AnyEvent]:
    found: list[e.AnyEvent] = []
    for connection in range(10 * batch, 10 * batch + 10):
        found.append(e.ConnectionAccepted(1.0, connection, 80))
        found.append(
            e.ConnectionClosed(1.0, connection, 80, backend="b", bytes_in=10, bytes_out=20, duration=0.5, reason="eof")
        )
    return found


async def moment(path: str) -> None:
    await Replay(View()).moment(from_file(path))


async def series(path: str) -> int:
    """How many characters a series of the log has."""
    size = 0

    def write(text: str) -> None:
        nonlocal size
        size += len(text)

    with Series() as found:
        async for at, readings in Replay(View()).series(from_file(path), 0.2):
            found.add(readings, at)
        found.write(write)
    return size


async def told(path: str) -> None:
    async for _ in events(from_file(path)):
        pass


PEAK = """
import asyncio, re, sys
from pathlib import Path
from tests.replay.test_memory import series
size = asyncio.run(series(sys.argv[1]))
print(size, int(re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1]) << 10)
"""
"""A program of its own, without what its parent needed before, which `getrusage` tells as well."""

LEAST = 20 << 20
"""Bytes of samples that a longer log has more: what keeps them in memory shows."""


def test_the_samples_of_a_longer_log_do_not_wait_in_memory(tmp_path: Path) -> None:
    sizes, peaks = [], []
    for batches in (FEW, MANY):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, log(tmp_path, batches)], capture_output=True, text=True, check=True
        )
        size, peak = map(int, done.stdout.split())
        sizes.append(size)
        peaks.append(peak)
    assert sizes[1] > sizes[0] + LEAST
    assert peaks[1] < peaks[0] + LEAST / 2, (peaks, sizes)


@pytest.mark.parametrize("work", [moment, series, told])
async def test_a_log_six_times_as_long_takes_no_more_memory(
    work: Callable[[str], Awaitable[object]], tmp_path: Path
) -> None:
    await work(log(tmp_path, FEW))  # loads what is loaded once
    peaks = []
    for batches in (FEW, MANY):
        path = log(tmp_path, batches)
        tracemalloc.start()
        await work(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + SPARE, peaks
