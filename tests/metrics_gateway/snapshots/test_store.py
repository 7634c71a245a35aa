"""Snapshots on a real bus: saved at once or not at all, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream.log_reader import Stream
from services.common.jetstream.object_store import Objects
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots.snapshot import encode
from services.metrics_gateway.snapshots.store import REPLACED, SLOTS, Store
from services.metrics_gateway.state.state import State
from tests.metrics_gateway.recording import LOG, START, folded, read

CREATED = "2026-01-01T00:00:00+00:00"
STREAM = Stream(CREATED, 1, 10**6)
BUCKET_STREAM = f"OBJ_{subjects.SNAPSHOTS}"
MESSAGES = list(read(LOG))


def store(bus: Bus) -> Store:
    return Store(Objects(bus, subjects.SNAPSHOTS), structlog.get_logger())


def after(count: int) -> State:
    """The state after the first messages of the log."""
    return folded(MESSAGES[:count])


def go_on(state: State | None) -> State:
    """Fold the rest of the log."""
    result = state or State()
    for position in range(result.position + 1, len(MESSAGES) + 1):
        apply(result, position, START + position / 10, MESSAGES[position - 1])
    return result


async def save(into: Store, count: int) -> None:
    await into.save(encode(after(count), CREATED))


async def position(bus: Bus, stream: Stream = STREAM) -> int | None:
    """Up to where a gateway that starts now would know the log."""
    state = await store(bus).load(stream)
    return state.position if state else None


class Faults:
    """The `at`th step that changes something on the bus ends otherwise: not begun, or done but never heard of."""

    def __init__(self, bus: Bus, at: int, is_done: bool, error: BaseException) -> None:
        self._at = at
        self._is_done = is_done
        self._error = error
        self.steps = 0
        for name in ("publish", "purge_stream"):
            setattr(bus.jetstream, name, self._failing(getattr(bus.jetstream, name)))

    def _failing(self, step: Callable[..., object]) -> Callable[..., object]:
        async def run(*args: object, **kwargs: object) -> object:
            self.steps += 1
            if self.steps < self._at:
                return await step(*args, **kwargs)  # type: ignore[misc]  # any method of the client
            if self.steps == self._at and self._is_done:
                await step(*args, **kwargs)  # type: ignore[misc]
            raise self._error

        return run


@pytest.mark.parametrize("error", [asyncio.CancelledError(), TimeoutError("fault")], ids=["killed", "lost"])
async def test_wherever_a_save_breaks_off_nothing_is_lost_or_counted_twice(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("nats.js.object_store.OBJ_DEFAULT_CHUNK_SIZE", 1000)
    everything = folded(MESSAGES)
    outcomes: set[int] = set()
    for at in range(1, 100):
        for is_done in (False, True):
            first = store(bus)
            for count in (50, 60, 70):
                await save(first, count)
            with monkeypatch.context() as patch:
                patch.setattr(bus.jetstream, "publish", bus.jetstream.publish)
                patch.setattr(bus.jetstream, "purge_stream", bus.jetstream.purge_stream)
                faults = Faults(bus, at, is_done, error)
                try:
                    await save(first, 80)
                except (asyncio.CancelledError, BusError):
                    pass
                else:
                    assert outcomes == {70, 80}
                    return
            assert faults.steps >= at
            state = await store(bus).load(STREAM)
            assert state
            outcomes.add(state.position)
            assert go_on(state) == everything
    raise AssertionError("a save never succeeds")


async def test_the_newest_few_are_kept_and_the_newest_is_loaded(bus: Bus) -> None:
    one = store(bus)
    assert await one.load(STREAM) is None
    for count in range(10, 70, 10):
        await save(one, count)
    assert await store(bus).load(STREAM) == after(60)
    info = await bus.jetstream.stream_info(BUCKET_STREAM, subjects_filter=f"$O.{subjects.SNAPSHOTS}.>")
    assert len(info.state.subjects or {}) == 2 * len(SLOTS)


async def test_after_a_restart_the_oldest_makes_room(bus: Bus) -> None:
    for count in (10, 20, 30, 40, 50):
        fresh = store(bus)
        await fresh.load(STREAM)
        await save(fresh, count)
        assert await position(bus) == count


@pytest.mark.parametrize("damage", ["rubbish", "meta", "chunks", "version", "state"])
async def test_a_damaged_snapshot_gives_way_to_an_older_one_with_one_line(bus: Bus, damage: str) -> None:
    one = store(bus)
    await save(one, 10)
    await save(one, 20)
    objects = Objects(bus, subjects.SNAPSHOTS)
    whole = encode(after(20), CREATED)
    contents = {"rubbish": b"rubbish", "version": b"\x91\x07", "state": whole[:30] + bytes(len(whole) - 30)}
    if damage in contents:
        await objects.put(SLOTS[1], contents[damage])
    elif damage == "meta":
        await bus.jetstream.publish(f"$O.{subjects.SNAPSHOTS}.M.c3RhdGUtMQ==", b"rubbish")
    else:
        await bus.jetstream.purge_stream(BUCKET_STREAM, subject=f"$O.{subjects.SNAPSHOTS}.C.>")
        await objects.put(SLOTS[0], encode(after(10), CREATED))
    with capture_logs() as lines:
        assert await store(bus).load(STREAM) == after(10)
    (line,) = lines
    assert (line["event"], line["object"]) == ("snapshot not used", SLOTS[1])
    await save(one, 30)
    await save(one, 40)
    assert await position(bus) == 40


async def test_the_newest_snapshot_goes_on_with_a_stream_that_was_made_anew_with_one_line(bus: Bus) -> None:
    one = store(bus)
    for count in (10, 20, 30):
        await save(one, count)
    anew = Stream("2026-02-02T00:00:00+00:00", 1, 5)
    fresh = store(bus)
    with capture_logs() as lines:
        state = await fresh.load(anew)
    assert [line["event"] for line in lines] == [REPLACED]
    assert state
    assert (state.position, state.events) == (0, after(30).events)
    apply(state, 1, START, MESSAGES[30])
    await fresh.save(encode(state, anew.created))
    again = await store(bus).load(anew)
    assert again == state


async def test_the_newest_snapshot_goes_on_with_a_stream_that_lost_its_end(bus: Bus) -> None:
    one = store(bus)
    for count in (10, 20, 30):
        await save(one, count)
    state = await store(bus).load(Stream(CREATED, 1, 25))
    assert state
    assert (state.position, state.events) == (25, after(30).events)


async def test_two_gateways_that_save_at_once_leave_whole_snapshots(bus: Bus) -> None:
    async def many(counts: range) -> None:
        one = store(bus)
        for count in counts:
            await save(one, count)

    await asyncio.gather(many(range(1, 40, 2)), many(range(2, 41, 2)))
    state = await store(bus).load(STREAM)
    assert state
    assert state.position >= 34
    assert go_on(state) == folded(MESSAGES)
