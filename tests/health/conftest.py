"""The health service on a real bus, with everything that it published."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from schemas import codec, subjects
from schemas.events import AnyEvent, HealthChanged, HealthChecked
from schemas.routing import Health, Replica
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from services.common.jetstream.log_reader import read
from services.common.process.lifecycle import Context
from services.health.service import serve
from services.health.settings import HealthSettings
from tests.support.nats_server import NatsServer
from tests.support.patience import patience
from tests.support.streams import no_stream_left as no_stream_left

HOST = "here"


async def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Return once the condition holds. Raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(patience(timeout)):
        while not condition():  # noqa: ASYNC110 - what is awaited happens on the other side of a socket
            await asyncio.sleep(0.01)


def key(replica: Replica, host: str = HOST) -> str:
    return subjects.replica_key(host, replica.app, replica.id)


class House:
    """A deployer's and a reader's side of the bus: names replicas, sees verdicts and events."""

    def __init__(self, server: NatsServer, bus: Bus) -> None:
        self.server = server
        self.bus = bus
        self.events: list[AnyEvent] = []
        self.apps: set[str] = set()

    async def follow(self) -> None:
        async for entries in read(self.bus, subject=subjects.events("health", "*")):
            for entry in entries:
                batch = codec.decode(entry.payload).batch
                self.events += batch.events
                if any(isinstance(event, HealthChecked) for event in batch.events):
                    self.apps.add(batch.app)

    async def add(self, replica: Replica) -> None:
        await self.bus.put(subjects.REPLICAS, key(replica), replica)

    async def remove(self, replica: Replica) -> None:
        await self.bus.delete(subjects.REPLICAS, key(replica))

    async def told(self, replica: Replica) -> Health | None:
        """What the bucket says of a replica, also while that is no verdict yet."""
        value = await self.bus.get(subjects.HEALTH, key(replica))
        return msgspec.json.decode(value, type=Health) if value else None

    async def until_told(self, replica: Replica) -> Health:
        """What the bucket says, as soon as it says anything."""
        async with asyncio.timeout(patience(20)):
            while True:
                if found := await self.told(replica):
                    return found
                await asyncio.sleep(0.01)

    async def verdict(self, replica: Replica) -> Health | None:
        found = await self.told(replica)
        return None if found and found.starting else found

    async def until_verdict(self, replica: Replica, healthy: bool | None) -> Health | None:
        """The verdict, once it is the one named; None: there is none."""
        async with asyncio.timeout(patience(20)):
            while True:
                with contextlib.suppress(BusError):
                    found = await self.verdict(replica)
                    if (found and found.healthy) == healthy:
                        return found
                await asyncio.sleep(0.01)

    def checks(self, replica: Replica) -> list[HealthChecked]:
        return [event for event in self.events if isinstance(event, HealthChecked) and event.replica == replica.id]

    def changes(self, replica: Replica) -> list[bool]:
        changed = [event for event in self.events if isinstance(event, HealthChanged)]
        return [event.healthy for event in changed if event.replica == replica.id]

    @contextlib.asynccontextmanager
    async def health(self, concurrency: int = 64) -> AsyncIterator[Context]:
        """A running health service; at the end it has stopped and everything it recorded is on the log."""
        settings = HealthSettings(host=HOST, concurrency=concurrency)
        context = Context("health", settings, await Bus.connect("health", Credentials([self.server.url])))
        outbox = asyncio.create_task(context.outbox.run())
        serving = asyncio.create_task(serve(context, settings))
        try:
            yield context
        finally:
            context.stopping.set()
            await serving
            await context.cancel_tasks()
            assert await context.outbox.flush(20)
            outbox.cancel()
            await context.bus.close()
        assert context.failure is None


@pytest.fixture
async def house(nats_server: NatsServer, bus: Bus) -> AsyncIterator[House]:
    house = House(nats_server, bus)
    following = asyncio.create_task(house.follow())
    yield house
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
