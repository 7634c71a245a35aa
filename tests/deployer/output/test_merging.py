"""Several outputs as one."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator

import pytest

from schemas.output import Line
from services.common.errors import EngineError
from services.deployer.output import merging
from services.deployer.output.merging import Merger
from services.deployer.runtime.entry import Entry, Kept
from tests.support.patience import patience


class Outputs:
    """Outputs in memory. `late`: lines that are printed after the past; an exception is raised instead."""

    def __init__(self, past: dict[str, list[float]], late: dict[str, list[float | Exception]]) -> None:
        self.past = past
        self.late = late
        self.closed: list[str] = []
        self.running: list[Kept] | Exception = []

    async def kept(self) -> list[Kept]:
        if isinstance(self.running, Exception):
            raise self.running
        return self.running

    async def last_lines(self, replica: str) -> str:
        return replica

    async def entries(self, replica: str, since: float, tail: int, follow: bool) -> AsyncGenerator[Entry | None]:
        try:
            for time in self.past.get(replica, []):
                yield Entry(time, b"past")
            if not follow:
                return
            yield None
            for late in self.late.get(replica, []):
                await asyncio.sleep(0)
                if isinstance(late, Exception):
                    raise late
                yield Entry(late, b"late")
        finally:
            self.closed.append(replica)


async def test_the_past_comes_in_the_order_of_time_and_then_what_is_printed() -> None:
    outputs = Outputs({"a": [1, 4], "b": [2, 3, 5], "c": []}, {"a": [6], "b": [7, 8]})
    merger = Merger(outputs, 0, follow=True)
    past = [(line.replica, line.time) async for line in merger.past(["a", "b", "c"], -1)]
    assert past == [("a", 1), ("b", 2), ("b", 3), ("a", 4), ("b", 5)]
    present = [line async for batch in merger.present() for line in batch]
    assert sorted(present, key=lambda line: line.time) == [
        Line("a", 6, b"late"),
        Line("b", 7, b"late"),
        Line("b", 8, b"late"),
    ]
    await merger.close()
    assert sorted(outputs.closed) == ["a", "b", "c"]


async def test_a_replica_that_starts_after_the_last_one_has_ended_comes_with_all_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merging, "LOOK", 0.01)
    outputs = Outputs({"a": [1], "b": [2]}, {"b": [3]})
    merger = Merger(outputs, 0, follow=True)
    assert [line.time async for line in merger.past(["a"], 0)] == [1]
    merger.watch()
    found: list[float] = []
    async with asyncio.timeout(patience(5)), contextlib.aclosing(merger.present()) as present:
        async for batch in present:
            found += [line.time for line in batch]
            if outputs.closed == ["a"]:  # it has ended, and no other runs
                outputs.running = [Kept("a", 0, 1, 2), Kept("b", 0, 2, math.inf)]
            if len(found) == 2:
                break
    assert found == [2, 3]
    await merger.close()


async def test_replicas_that_cannot_be_listed_end_the_stream_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "LOOK", 0.01)
    outputs = Outputs({"a": [1]}, {})
    outputs.running = OSError(5, "Input/output error")
    merger = Merger(outputs, 0, follow=True)
    assert [line.time async for line in merger.past(["a"], -1)] == [1]
    merger.watch()
    with pytest.raises(OSError, match="Input/output error"):
        async with asyncio.timeout(patience(5)):
            _ = [line async for line in merger.present()]
    await merger.close()


async def test_an_output_that_cannot_be_read_ends_the_stream_with_its_reason() -> None:
    merger = Merger(Outputs({"a": [1]}, {"a": [EngineError("gone")]}), 0, follow=True)
    assert [line.time async for line in merger.past(["a"], -1)] == [1]
    with pytest.raises(EngineError, match="gone"):
        _ = [line async for line in merger.present()]
    await merger.close()
