"""Several outputs as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from schemas.output import Line
from services.common.errors import EngineError
from services.deployer.output.merging import Merger
from services.deployer.runtime.entry import Entry, Kept


class Outputs:
    """Outputs in memory. `late`: lines that are printed after the past; an exception is raised instead."""

    def __init__(self, past: dict[str, list[float]], late: dict[str, list[float | Exception]]) -> None:
        self.past = past
        self.late = late
        self.closed: list[str] = []

    async def kept(self) -> list[Kept]:
        return []

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


async def test_a_replica_that_starts_later_comes_with_all_its_lines() -> None:
    outputs = Outputs({"a": [1], "b": [2]}, {"b": [3]})
    merger = Merger(outputs, 0, follow=True)
    assert [line.time async for line in merger.past(["a"], 0)] == [1]
    await merger.add("b")
    assert [line.time async for batch in merger.present() for line in batch] == [2, 3]
    await merger.close()


async def test_an_output_that_cannot_be_read_ends_the_stream_with_its_reason() -> None:
    merger = Merger(Outputs({"a": [1]}, {"a": [EngineError("gone")]}), 0, follow=True)
    assert [line.time async for line in merger.past(["a"], -1)] == [1]
    with pytest.raises(EngineError, match="gone"):
        _ = [line async for line in merger.present()]
    await merger.close()
