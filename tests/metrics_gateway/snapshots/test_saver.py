"""When the state is saved: by events, by time, at the end, and not while the bus is away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from schemas import codec, subjects
from schemas import events as e
from schemas.codec import Batch
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.jetstream.log_reader import LogMessage, describe, read
from services.common.jetstream.object_store import Objects
from services.common.jetstream.provisioning import Limits, ensure_streams
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold import apply
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.log_health import WARNINGS
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.service import follow
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.snapshots.saver import BEGINS_LATE, Saver
from services.metrics_gateway.snapshots.store import REPLACED, SLOTS, Store
from services.metrics_gateway.state.state import State
from tests.support.gateway_process import publishing
from tests.support.nats_server import NatsServer
from tests.support.patience import patience

NEVER = 10**6


class Gateway:
    """A gateway in this process: what it folds, and its saver."""

    def __init__(self, bus: Bus, interval: float = NEVER, events: int = NEVER) -> None:
        self.bus = bus
        self.live = Projection(bus)
        self.store = Store(Objects(bus, subjects.SNAPSHOTS), structlog.get_logger())
        self.saver = Saver(self.live, bus, self.store, structlog.get_logger(), interval, events)

    @property
    def connections(self) -> int:
        return connections_of(self.live.state)

    async def until_folded(self, connections: int) -> None:
        await until(lambda: self.connections == connections)


def connections_of(state: State) -> int:
    return sum(port.connections for port in state.ports.values())


async def until(is_there: Callable[[], bool]) -> None:
    async with asyncio.timeout(patience(20)):
        while not is_there():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    """It folds while inside; it is killed with the block: no last save."""
    following = asyncio.create_task(follow(gateway.live, gateway.bus, gateway.saver))
    pending = {following, asyncio.create_task(gateway.saver.run())}
    try:
        yield gateway
    finally:
        while pending:  # the bus client may swallow a cancellation, see Context.cancel_tasks
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.5)


async def publish(bus: Bus, instance: str, connections: int) -> None:
    async with publishing(bus, "proxy", instance) as proxy:
        for connection in range(connections):
            proxy.record(e.ConnectionAccepted(1.0, connection, 8080), "shop")


async def saved(bus: Bus) -> State | None:
    return await Gateway(bus).store.load(await describe(bus))


async def until_saved(bus: Bus, connections: int, undecodable: int = 0) -> None:
    async with asyncio.timeout(patience(20)):
        while True:
            state = await saved(bus)
            if state and (connections_of(state), state.undecodable) == (connections, undecodable):
                return
            await asyncio.sleep(0.02)


async def test_so_many_events_make_a_snapshot_due(bus: Bus) -> None:
    async with running(Gateway(bus, events=100)) as gateway:
        await publish(bus, "p-1", 99)
        await gateway.until_folded(99)
        assert await saved(bus) is None
        await publish(bus, "p-2", 1)
        await until_saved(bus, 100)


async def test_what_has_changed_is_saved_after_the_interval(bus: Bus) -> None:
    async with running(Gateway(bus, interval=0.05)):
        await publish(bus, "p-1", 3)
        await until_saved(bus, 3)
        await publish(bus, "p-2", 4)
        await until_saved(bus, 7)


async def test_what_has_not_changed_is_not_saved_again(bus: Bus) -> None:
    gateway = Gateway(bus)
    async with running(gateway):
        await publish(bus, "p-1", 3)
        await gateway.until_folded(3)
    await gateway.saver.save()
    before = await bus.jetstream.stream_info(f"OBJ_{subjects.SNAPSHOTS}")
    await gateway.saver.save()
    fresh = Gateway(bus)
    await fresh.saver.restore()
    await fresh.saver.save()
    assert (await bus.jetstream.stream_info(f"OBJ_{subjects.SNAPSHOTS}")).state == before.state


async def test_a_close_saves_what_is_new_and_ends_the_saving(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 3)
        await gateway.until_folded(3)
        gateway.saver.close()
        await until_saved(bus, 3)


async def test_a_close_during_a_save_saves_once_more(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(bus, events=3)
    began, go_on = asyncio.Event(), asyncio.Event()
    save = gateway.store.save

    async def slow(data: bytes) -> None:
        began.set()
        await go_on.wait()
        await save(data)

    monkeypatch.setattr(gateway.store, "save", slow)
    async with running(gateway):
        await publish(bus, "p-1", 3)
        await asyncio.wait_for(began.wait(), 20)
        await publish(bus, "p-2", 1)
        await gateway.until_folded(4)
        gateway.saver.close()
        go_on.set()
        await until_saved(bus, 4)


async def test_one_that_is_killed_again_and_again_knows_what_the_whole_log_says(bus: Bus) -> None:
    for n in range(1, 9):
        async with running(Gateway(bus, events=1)) as gateway:
            await publish(bus, f"p-{n}", 30)
            await gateway.until_folded(30 * n)
            if n % 2:
                await until_saved(bus, 30 * n)
    refolded = State()
    async for entries in read(bus, wait=False):
        for entry in entries:
            apply.apply(refolded, entry.sequence, entry.time, entry.payload, entry.subject)
    refolded.log = (await describe(bus)).created
    assert gateway.live.state == refolded


async def test_old_events_that_left_the_stream_still_count_after_a_restart(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        await gateway.saver.save()
    await bus.jetstream.purge_stream(subjects.STREAM)
    with capture_logs() as lines:
        async with running(Gateway(bus)) as restarted:
            await publish(bus, "p-2", 4)
            await restarted.until_folded(34)
    assert lines == []


async def test_events_that_left_the_stream_before_they_were_read_are_told(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        await gateway.saver.save()
    await publish(bus, "p-2", 5)
    await bus.jetstream.purge_stream(subjects.STREAM)
    with capture_logs() as lines:
        async with running(Gateway(bus)) as restarted:
            await publish(bus, "p-3", 2)
            await restarted.until_folded(32)
            await restarted.saver.save()
    (line,) = lines
    assert (line["event"], line["count"]) == (WARNINGS["messages_lost"], 1)
    async with running(Gateway(bus)) as once_more:
        await publish(bus, "p-4", 1)
        await once_more.until_folded(33)
        assert once_more.live.state.messages_lost == 1
        page = Exporter(once_more.live.measurement, {}).expose("text/plain", "").body
        assert b"longshore_gateway_messages_lost_total 1.0\n" in page


async def test_a_running_gateway_that_falls_behind_the_limits_tells_how_much_it_lost(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        behind = LogMessage(gateway.live.state.position + 8, subjects.STREAM, b"", 0, 1.0)
        gateway.live.fold(behind)
        assert gateway.live.state.messages_lost == 7


@pytest.mark.parametrize(("limit", "left"), [(Limits(max_age=1), 0), (Limits(max_bytes=4096), 20)], ids=str)
async def test_events_that_leave_by_the_limits_of_a_log_that_is_there_stay_in_the_sums(
    bus: Bus, limit: Limits, left: int
) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        await gateway.saver.save()
    await ensure_streams(bus, limit)
    async with asyncio.timeout(patience(30)):
        while (await bus.jetstream.stream_info(subjects.STREAM)).state.messages > left:  # noqa: ASYNC110 - no news of it
            await asyncio.sleep(0.1)
    await ensure_streams(bus, Limits(max_age=3600))
    async with running(Gateway(bus)) as restarted:
        await publish(bus, "p-2", 4)
        await restarted.until_folded(34)
        assert restarted.live.state.messages_lost == 0


async def test_with_snapshots_of_another_version_only_it_is_told_what_the_log_no_longer_has(bus: Bus) -> None:
    await publish(bus, "p-1", 30)
    await bus.jetstream.purge_stream(subjects.STREAM)
    await publish(bus, "p-2", 4)
    objects = Objects(bus, subjects.SNAPSHOTS)
    older = b"\x91\x01"
    await asyncio.gather(*(objects.put(slot, older) for slot in SLOTS))
    gateway = Gateway(bus)
    with capture_logs() as lines:
        await gateway.saver.restore()
    left = (await describe(bus)).first - 1
    assert [line["event"] for line in lines[:-1]] == ["snapshot not used"] * len(SLOTS)
    assert (lines[-1]["event"], lines[-1]["messages"]) == (BEGINS_LATE, left)
    assert [await objects.get(slot) for slot in SLOTS] == [older] * len(SLOTS)
    async with running(gateway):
        await gateway.until_folded(4)
        await gateway.saver.save()
    assert [await objects.get(slot) for slot in SLOTS].count(older) == len(SLOTS) - 1
    assert connections_of(await saved(bus) or State()) == 4


async def test_after_a_restart_the_sums_go_on_with_a_stream_that_was_made_anew(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        await gateway.saver.save()
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    await publish(bus, "p-2", 4)
    await publish(bus, "p-3", 4)
    with capture_logs() as lines:
        async with running(Gateway(bus)) as restarted:
            await restarted.until_folded(38)
            await restarted.saver.save()
        async with running(Gateway(bus)) as once_more:
            await publish(bus, "p-4", 1)
            await once_more.until_folded(39)
    assert [line["event"] for line in lines] == [REPLACED]


async def test_a_stream_deleted_under_a_running_gateway_is_told_and_the_sums_go_on(bus: Bus) -> None:
    with capture_logs() as lines:
        async with running(Gateway(bus)) as gateway, publishing(bus, "proxy", "p-1") as proxy:
            proxy.record(e.ConnectionAccepted(1.0, 1, 8080), "shop")
            await gateway.until_folded(1)
            await bus.jetstream.delete_stream(subjects.STREAM)
            await until(lambda: any("reading the log failed" in line["event"] for line in lines))
            proxy.record(e.ConnectionAccepted(1.0, 2, 8080), "shop")
            await ensure_streams(bus)
            await gateway.until_folded(2)
            assert (gateway.live.state.missing(), gateway.live.state.chain_breaks) == (0, 0)
            await gateway.saver.save()
    # The proxy's outbox notices the missing stream as well, or does not, and writes its own line before or after.
    warnings = [line for line in lines if line["log_level"] == "warning" and line.get("service") != "proxy"]
    assert [line["event"] for line in warnings] == ["reading the log failed, retrying", REPLACED]
    state = await saved(bus)
    assert state == gateway.live.state


async def test_a_stream_replaced_while_the_gateway_was_cut_off_is_noticed(bus: Bus, nats_server: NatsServer) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 30)
        await gateway.until_folded(30)
        other = await Bus.connect("admin", Credentials([nats_server.url]))
        nats_server.kill()
        await until(lambda: not bus.is_connected)
        nats_server.start()
        await other.until_connected()
        await other.jetstream.delete_stream(subjects.STREAM)
        await ensure_streams(other)
        await other.close()
        await publish(bus, "p-2", 4)
        await gateway.until_folded(34)


async def test_a_stream_that_lost_its_end_is_followed_from_there(bus: Bus) -> None:
    async with running(Gateway(bus)) as gateway:
        await publish(bus, "p-1", 3)
        await gateway.until_folded(3)
        await gateway.saver.save()
    state = gateway.live.state
    state.position += 5
    ahead = Gateway(bus)
    await ahead.store.save(snapshot.encode(state, (await describe(bus)).created))
    async with running(ahead):
        await publish(bus, "p-2", 2)
        await ahead.until_folded(5)


async def test_a_bus_that_is_away_delays_a_save_and_a_start(bus: Bus, nats_server: NatsServer) -> None:
    async with running(Gateway(bus, interval=0.05)) as gateway:
        await publish(bus, "p-1", 3)
        await until_saved(bus, 3)
        nats_server.kill()
        await until(lambda: not bus.is_connected)
        gateway.live.fold(LogMessage(gateway.live.state.position + 1, "s", b"no batch", 0, 1.0))
        async with running(Gateway(bus)) as second:
            nats_server.start()
            await second.until_folded(3)
        await until_saved(bus, 3, undecodable=1)


async def test_a_bus_that_refuses_a_save_is_told_once_and_tried_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(bus)
    async with running(gateway):
        await publish(bus, "p-1", 3)
        await gateway.until_folded(3)
    with capture_logs() as lines:
        with monkeypatch.context() as patch:
            patch.setattr(bus.jetstream, "_timeout", 0.001)
            patch.setattr("services.common.jetstream.object_store.DEADLINE", 0.0)
            await gateway.saver.save()
            await gateway.saver.save()
        await gateway.saver.save()
    assert [line["event"] for line in lines] == ["cannot save a snapshot, trying again", "snapshots are saved again"]
    await until_saved(bus, 3)


async def test_a_message_that_was_applied_by_half_is_never_saved(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(bus)
    await gateway.saver.restore()

    def broken(_context: BatchContext, _event: e.Event) -> None:
        raise RuntimeError

    handlers: dict[type[e.Event], apply.Handler] = {**apply.STEPS}
    handlers[e.ConnectionClosed] = broken
    monkeypatch.setattr(apply, "STEPS", handlers)
    events: list[e.AnyEvent] = [
        e.ConnectionAccepted(1.0, 1, 8080),
        e.ConnectionClosed(1.0, 1, 8080, backend="b", bytes_in=1, bytes_out=1, duration=1.0, reason="eof"),
    ]
    payload = codec.encode(Batch("proxy", "web-1", "shop", "p-1", 1, events))
    with pytest.raises(RuntimeError):
        gateway.live.fold(LogMessage(1, subjects.events("proxy", "shop"), payload, 0, 1.0))
    await gateway.saver.save()
    assert await gateway.store.load(await describe(bus)) is None
    info = await bus.jetstream.stream_info(f"OBJ_{subjects.SNAPSHOTS}")
    assert info.state.messages == 0


async def test_what_is_wrong_with_the_log_is_told_in_one_line_each_and_folded_past(bus: Bus) -> None:
    newer = msgspec.msgpack.encode(["proxy", "web-1", "shop", "n", 1, [[127, 1.0, "?"]], b"", "a new field"])
    with capture_logs() as lines:
        async with running(Gateway(bus)) as gateway:
            for payload in (b"rubbish", b"", newer, os.urandom(1 << 19)):
                await bus.jetstream.publish(subjects.events("proxy", "shop"), payload)
            await publish(bus, "p-1", 3)
            await gateway.until_folded(3)
            await until(lambda: gateway.live.state.unknown == 1)
            for _ in range(50):
                await bus.jetstream.publish(subjects.events("proxy", "shop"), b"more rubbish")
            await publish(bus, "p-2", 3)
            await gateway.until_folded(6)
    assert gateway.live.state.undecodable == 53
    told = sorted(line["event"] for line in lines)
    assert told == [WARNINGS["unknown"], WARNINGS["undecodable"]]
