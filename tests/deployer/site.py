"""A host with a bus, a registry and deployers, where the test plays the proxy and the health service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from schemas import codec, subjects
from schemas.commands import Command, Reply
from schemas.events import AnyEvent, Event
from schemas.routing import Decisions, Health, Replica, Route, Serving
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import BusError
from services.common.jetstream.log_reader import read
from services.common.jetstream.watch import Synced, watch_keys
from services.common.process.lifecycle import Context
from services.deployer.runtime import orphans
from services.deployer.service import replicas, serve
from services.deployer.settings import DeployerSettings
from tests.deployer.waiting import DEADLINE, answer, eventually
from tests.support.nats_server import NatsServer

HOST = "here"
E = TypeVar("E", bound=Event)


class Site:
    """`sick`: releases and replicas that fail their probes. `busy`: replicas whose connections do not end.

    `follows` and `probes`: whether the proxy and the health service do anything.
    """

    def __init__(self, server: NatsServer, bus: Bus, state_dir: Path, registry: Path, host: str = HOST) -> None:
        self.host = host
        self.server = server
        self.bus = bus
        self.state_dir = state_dir
        self.registry = registry
        self.sick: set[str] = set()
        self.busy: dict[str, int] = {}
        self.follows = True
        self.probes = True
        self.events: list[AnyEvent] = []
        self.routes: list[Route] = []
        self.replicas: dict[str, Replica] = {}
        self._verdicts: dict[str, Health] = {}

    def settings(self, **options: Any) -> DeployerSettings:
        usual: dict[str, Any] = {
            "app": "web",
            "registry": f"dir://{self.registry}",
            "port": ["8080"],
            "host": self.host,
            "state_dir": str(self.state_dir),
            "nats_url": [self.server.url],
            "interval": 0.1,
            "health_path": "/up",
            "drain_time": 10.0,
        }
        return DeployerSettings(**(usual | options))

    @contextlib.asynccontextmanager
    async def deployer(self, **options: Any) -> AsyncIterator[Context]:
        """A running deployer; at the end it has stopped and everything it recorded is on the log."""
        settings = self.settings(**options)
        context = Context("deployer", settings, await Bus.connect("deployer", Credentials([self.server.url])))
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

    async def ask(self, command: Command, ok: bool = True) -> Reply:
        """The deployer's answer, once there is a deployer."""
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(BusError):
                    reply = msgspec.json.decode(
                        await self.bus.request(subjects.commands("web", self.host), command), type=Reply
                    )
                    break
                await asyncio.sleep(0.02)
        assert reply.ok == ok, reply.message
        return reply

    async def decisions(self) -> Decisions:
        value = await self.bus.get(subjects.DECISIONS, subjects.decisions_key(self.host, "web"))
        return msgspec.json.decode(value, type=Decisions) if value else Decisions()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[E], count: int = 1) -> E:
        """The `count`-th event of a kind."""
        await eventually(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def active(self) -> list[str]:
        """The replicas that the route names now."""
        backends = self.routes[-1].backends if self.routes else []
        return [backend.id for backend in backends if backend.state == "active"]

    async def until_serving(self, release: str, count: int = 1) -> list[str]:
        """The replicas once so many of the release, and nothing else, take traffic and run."""

        def found() -> list[str]:
            ids = self.active()
            alone = set(ids) == set(self.replicas)
            right = [one for one in ids if alone and self.replicas[one].release == release]
            return ids if len(right) == len(ids) == count else []

        return await eventually(found)

    def pids(self) -> dict[str, int]:
        """The processes of all replicas that ever were and are not forgotten by pruning."""
        folders = replicas(self.settings()).glob("*/started")
        return {path.parent.name: int(path.read_text().split()[1]) for path in folders}

    def alive(self) -> set[str]:
        """The replicas of which a process is left."""
        folders = [path.parent for path in replicas(self.settings()).glob("*/replica.json")]
        return {folder.name for folder in folders if any(orphans.find(folder.name))}

    def visit(self, replica: Replica) -> str:
        """What a replica answers to a client; empty when there is nobody."""
        return answer(replica.port)

    async def lose_buckets(self) -> None:
        """Lose all that was written to the bus, and that the other services had of it."""
        for bucket in subjects.BUCKETS:
            await self.bus.jetstream.purge_stream(f"KV_{bucket}")
        self.routes.clear()
        self.replicas.clear()
        self._verdicts.clear()

    @contextlib.asynccontextmanager
    async def played(self) -> AsyncIterator[None]:
        """With the services around the deployer."""
        works = (self._proxy(), self._health(), self._watch_routes(), self._watch_replicas(), self._read_log())
        tasks = {asyncio.create_task(work) for work in works}
        try:
            yield
        finally:
            failures = [task.exception() for task in tasks if task.done()]
            pending = tasks
            while pending:  # asyncio.wait_for of Python 3.11 may swallow a cancellation
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=0.5)
            assert not failures, failures

    async def _watch_routes(self) -> None:
        async for change in watch_keys(self.bus, subjects.ROUTES, f"{self.host}.>"):
            if not isinstance(change, Synced) and change.value is not None:
                route = msgspec.json.decode(change.value, type=Route)
                self.routes.append(route)

    async def _proxy(self) -> None:
        """Serve the newest routes, and count the connections that drain."""
        told: dict[str, Serving] = {}
        while True:
            newest = {subjects.route_key(self.host, route.app, route.port): route for route in self.routes}
            for key, route in newest.items() if self.follows else ():
                draining = {one.id for one in route.backends if one.state == "draining"}
                counts = {one: count for one, count in self.busy.items() if one in draining and count}
                serving = Serving(route.app, route.port, route.generation, counts)
                if told.get(key) != serving:
                    with contextlib.suppress(BusError):
                        await self.bus.put(subjects.SERVING, key, serving)
                        told[key] = serving
            await asyncio.sleep(0.01)

    async def _health(self) -> None:
        """Probe every replica by a connection."""
        told = self._verdicts
        while True:
            for replica in list(self.replicas.values()) if self.probes else ():
                ill = replica.release in self.sick or replica.id in self.sick
                healthy = not ill and await self._answers(replica)
                verdict = Health(replica.app, replica.id, healthy, 0.0, pid=replica.pid)
                if (healthy or replica.id in told) and told.get(replica.id) != verdict:
                    key = subjects.replica_key(self.host, replica.app, replica.id)
                    with contextlib.suppress(BusError):
                        await self.bus.put(subjects.HEALTH, key, verdict)
                        told[replica.id] = verdict
            await asyncio.sleep(0.01)

    async def _answers(self, replica: Replica) -> bool:
        """Nobody at two probes in a row, as for health: an engine's forwarder resets a connection now and then."""
        for _ in range(2):
            if await asyncio.to_thread(self.visit, replica):
                return True
        return False

    async def _watch_replicas(self) -> None:
        async for change in watch_keys(self.bus, subjects.REPLICAS, f"{self.host}.>"):
            if isinstance(change, Synced):
                continue
            if change.value is None:
                gone = [one for one in self.replicas if subjects.replica_key(self.host, "web", one) == change.key]
                for one in gone:
                    del self.replicas[one]
            else:
                replica = msgspec.json.decode(change.value, type=Replica)
                self.replicas[replica.id] = replica

    async def _read_log(self) -> None:
        async for messages in read(self.bus, subject=subjects.from_host(subjects.events("deployer", "web"), self.host)):
            for message in messages:
                self.events += codec.decode(message.payload).batch.events
