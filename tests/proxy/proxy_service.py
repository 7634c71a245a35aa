"""A real proxy, master and workers, as a process of its own on a real bus."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from schemas import codec, subjects
from schemas.events import Event, ServiceStarted
from schemas.routing import Backend, Route, Serving
from services.common.bus.connection import Bus
from services.common.config.settings import arguments, variables
from services.common.jetstream.log_reader import read
from services.proxy.settings import ProxySettings
from services.proxy.sockets.listeners import Listener, environment
from tests.support.ports import free_port

HOST = "here"
APP = "web"
DEADLINE = 20.0

E_ = TypeVar("E_", bound=Event)


class Recorded(msgspec.Struct, frozen=True):
    """An event from the log, and who recorded it."""

    instance: str
    app: str
    event: Event


class Log:
    """All events on the bus, as they arrive."""

    def __init__(self) -> None:
        self.entries: list[Recorded] = []
        self.sequences: dict[str, list[int]] = {}
        self._news = asyncio.Event()

    async def run(self, bus: Bus) -> None:
        async for entries in read(bus):
            for entry in entries:
                batch = codec.decode(entry.payload).batch
                self.sequences.setdefault(batch.instance, []).append(batch.sequence)
                self.entries += [Recorded(batch.instance, batch.app, event) for event in batch.events]
            self._news.set()

    def of(self, kind: type[E_]) -> list[E_]:
        return [entry.event for entry in self.entries if isinstance(entry.event, kind)]

    async def wait_for(self, condition: Callable[[], object], timeout: float = DEADLINE) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"not within {timeout:g} s; the log ends with {self.entries[-20:]}") from None

    async def wait_for_event(self, kind: type[E_], count: int = 1) -> list[E_]:
        await self.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)


class Proxy:
    """What a deployer and a supervisor see of it."""

    def __init__(self, bus: Bus, log: Log, port: int) -> None:
        self.bus = bus
        self.log = log
        self.port = port
        self.generation = 0
        self.process: asyncio.subprocess.Process

    async def route(self, *backends: Backend) -> int:
        """Write a route; returns its generation."""
        self.generation += 1
        key = subjects.route_key(HOST, APP, self.port)
        await self.bus.put(subjects.ROUTES, key, Route(APP, self.port, self.generation, list(backends)))
        return self.generation

    async def serve(self, *backends: Backend) -> None:
        """Write a route once the bus is there, and wait until all workers follow it."""
        async with asyncio.timeout(DEADLINE):
            await self.bus.until_connected()
        generation = await self.route(*backends)
        await self.wait_for_serving(lambda serving: serving.generation == generation)

    async def wait_for_serving(self, condition: Callable[[Serving], bool]) -> Serving:
        deadline = time.monotonic() + DEADLINE
        while True:
            value = await self.bus.get(subjects.SERVING, subjects.route_key(HOST, APP, self.port))
            serving = msgspec.json.decode(value, type=Serving) if value else None
            if serving and condition(serving):
                return serving
            assert time.monotonic() < deadline, f"not within {DEADLINE:g} s; serving {serving}"
            await asyncio.sleep(0.02)

    def workers(self) -> dict[str, int]:
        """Process id of each worker instance that ever started."""
        started = [entry for entry in self.log.entries if isinstance(entry.event, ServiceStarted)]
        return {
            entry.instance: entry.event.pid
            for entry in started
            if isinstance(entry.event, ServiceStarted) and entry.event.unit == "proxy-worker"
        }

    async def wait_for_workers(self, count: int, timeout: float = DEADLINE) -> list[int]:
        await self.log.wait_for(lambda: len(self.workers()) >= count, timeout)
        return list(self.workers().values())

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), DEADLINE)


@asynccontextmanager
async def proxy(
    bus: Bus, url: str, settings: ProxySettings | None = None, listeners: list[Listener] | None = None
) -> AsyncIterator[Proxy]:
    """A proxy that runs, with the log that it writes."""
    log = Log()
    reading = asyncio.create_task(log.run(bus))
    port = listeners[0].binding.port if listeners else free_port()
    result = Proxy(bus, log, port)
    chosen = msgspec.structs.replace(
        settings or ProxySettings(workers=2), host=HOST, nats_url=[url], listen=[f"{APP}=127.0.0.1:{port}"]
    )
    result.process = await start(chosen, listeners or [])
    try:
        await result.wait_for_workers(chosen.workers)
        yield result
    finally:
        if result.process.returncode is None:
            result.process.kill()
            await result.process.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def start(settings: ProxySettings, listeners: list[Listener]) -> asyncio.subprocess.Process:
    """The service's process, with the sockets that a supervisor holds for it."""
    environ = os.environ | variables(settings) | {"LONGSHORE_LISTEN_FDS": environment(listeners)}
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "services.cli.main", "proxy", *arguments(settings)],
        env=environ,
        pass_fds=[fd for listener in listeners for fd in listener.fds],
    )
