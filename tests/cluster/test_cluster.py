"""A cluster of three servers that die, and one that is cut off: nothing lost, nothing twice, nobody restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas import subjects
from schemas.events import ConnectionAccepted
from schemas.routing import Route
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.bus.failover import leave_partitioned_server
from services.common.delivery.outbox import Outbox
from services.common.errors import BusError
from services.common.jetstream.log_reader import read
from services.common.jetstream.provisioning import Limits, ensure_streams
from services.common.jetstream.watch import Change, watch_keys
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.state.state import State
from tests.cluster.cluster import Cluster, Member
from tests.cluster.namespace import Namespace, namespace

DEADLINE = 90.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    found = Cluster([Member(name, folder / name) for name in ("a", "b", "c")])
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def cable() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


class Work:
    """What goes on in a test: a service that records without pause, and a fold that counts."""

    def __init__(self, publisher: Bus, bus: Bus, outbox: Outbox, state: State) -> None:
        self.publisher = publisher
        self.bus = bus
        self.recorded = 0
        self.state = state
        self.route = 0
        self._outbox = outbox

    @property
    def folded(self) -> int:
        return sum(port.connections for port in self.state.ports.values())

    async def record(self) -> None:
        while True:
            self.recorded += 1
            self._outbox.record(ConnectionAccepted(time.time(), self.recorded, 8080), "web")
            await asyncio.sleep(0.002)

    async def more(self, count: int = 200) -> None:
        """Wait until so many more events have come through."""
        target = self.recorded + count
        await until(lambda: self.folded >= target)

    async def settled(self) -> None:
        """Everything that was recorded has come through."""
        assert await self._outbox.flush(DEADLINE)
        await until(lambda: self.folded >= self.recorded)


async def until(is_there: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not is_there():  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.02)


async def _fold(bus: Bus, state: State) -> None:
    async for entries in read(bus):
        for entry in entries:
            apply(state, entry.sequence, entry.time, entry.payload)


async def _watch(work: Work) -> None:
    async for change in watch_keys(work.bus, subjects.ROUTES, "host.>"):
        if isinstance(change, Change) and change.value:
            work.route = int(change.value.split(b'"generation":')[1].split(b",")[0])


@asynccontextmanager
async def working(urls: list[str], instance: str) -> AsyncIterator[Work]:
    """Two connections, as those of two services; all that was recorded is folded, once, when the block ends."""
    async with connection("proxy", urls) as publisher, connection("gateway", urls) as reader:
        await ensure_streams(reader, Limits(replicas=3))
        await reader.jetstream.purge_stream(subjects.STREAM)
        async with _tasks(publisher, reader, instance) as work:
            yield work


@asynccontextmanager
async def connection(service: str, urls: list[str]) -> AsyncIterator[Bus]:
    bus = await Bus.connect(service, Credentials(urls), DEADLINE)
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def _tasks(publisher: Bus, reader: Bus, instance: str) -> AsyncIterator[Work]:
    outbox = Outbox(publisher, "proxy", "host", instance)
    work = Work(publisher, reader, outbox, State())
    tasks = [
        asyncio.create_task(one)
        for one in (
            outbox.run(),
            _fold(reader, work.state),
            _watch(work),
            leave_partitioned_server(publisher),
            leave_partitioned_server(reader),
        )
    ]
    recording = asyncio.create_task(work.record())
    try:
        await work.more(50)
        yield work
        recording.cancel()
        await work.settled()
        assert work.folded == work.recorded
        assert work.state.missing() == 0
    finally:
        for task in (recording, *tasks):
            task.cancel()
        await asyncio.gather(recording, *tasks, return_exceptions=True)


async def _leader(bus: Bus) -> str:
    info = await bus.jetstream.stream_info(subjects.STREAM)
    assert info.cluster
    return info.cluster.leader or ""


async def test_the_leader_dies_and_everything_goes_on_with_another(cluster: Cluster) -> None:
    async with working(cluster.urls, "leader") as work:
        leader = cluster.members[await _leader(work.bus)]
        leader.kill()
        await work.more()
        await _put(work, 1)
        leader.start()
        assert (await work.bus.jetstream.stream_info(subjects.STREAM)).config.num_replicas == 3


async def test_without_a_quorum_everything_waits_and_then_goes_on(cluster: Cluster) -> None:
    async with working(cluster.urls, "quorum") as work:
        dead = [cluster.members[name] for name in ("a", "b")]
        for member in dead:
            member.kill()
        before = work.recorded
        with pytest.raises(BusError):
            await work.bus.put(subjects.ROUTES, "host.web.80", Route("web", 80, 99))
        assert work.recorded > before  # who records does not wait
        for member in dead:
            member.start()
        await work.more()
        await _put(work, 100)


async def _put(work: Work, generation: int) -> None:
    """Write a route, again while the bus does not take it, and see it come back through the watch."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await work.bus.put(subjects.ROUTES, "host.web.80", Route("web", 80, generation))
                break
            except BusError:
                await asyncio.sleep(0.2)
    await until(lambda: work.route == generation)


async def test_services_leave_a_server_that_is_cut_off_from_the_others(cable: Namespace, tmp_path: Path) -> None:
    here, there = cable.here, cable.there
    members = [Member(name, tmp_path / name, "127.0.0.1", here["routes"]) for name in ("a", "b")]
    members.append(Member("c", tmp_path / "c", there["clients"], there["routes"], cable.enter))
    cut = Cluster(members)
    cut.start()
    try:
        urls = [members[2].url, members[0].url]
        async with working(urls, "cut") as work:
            for bus in (work.bus, work.publisher):
                await _until_at(bus, members[2])
            cable.cut("routes")
            await work.more()
            cable.mend("routes")
            await work.more()
            await _until_at(work.bus, members[2])
            cable.cut("clients")  # nothing closes the connection: only silence tells
            await work.more()
            cable.mend("clients")
    finally:
        cut.stop()


async def _until_at(bus: Bus, member: Member) -> None:
    """Go from server to server until it is this one."""
    async with asyncio.timeout(DEADLINE):
        while not (url := bus.client.connected_url) or url.port != member.port:
            await bus.client.leave()
            await asyncio.sleep(1)
            await bus.until_connected()


async def test_more_replicas_than_servers_are_refused_in_words(cluster: Cluster) -> None:
    async with connection("gateway", cluster.urls) as bus:
        with pytest.raises(BusError, match="--nats-replicas 5: fewer servers of the cluster are there"):
            await ensure_streams(bus, Limits(replicas=5))
