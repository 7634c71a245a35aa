"""The lifecycle of a service: connect, start, run until a signal or a failure, stop within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from schemas import subjects
from schemas.events import Event, ServiceHeartbeat, ServiceStarted, ServiceStopped
from services.common import log, tasks
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.bus.failover import leave_partitioned_server
from services.common.config.settings import Settings
from services.common.delivery.disk_queue import FOLDER, DiskQueue
from services.common.delivery.outbox import Outbox
from services.common.errors import LongshoreError
from services.common.ids import uuid7
from services.common.jetstream.provisioning import ensure_streams, limits
from services.common.process.state_lock import used
from services.common.process.watchdog import WatchdogPing
from services.common.version import VERSION

HEARTBEAT_INTERVAL = 5.0
STOP_TIMEOUT = 60.0
FLUSH_TIMEOUT = 3.0
CLEAN_UP = 5.0
"""Seconds for the clean-up of a service that did not stop in time: it gives its lease back, and saves what it can."""

BRIEFLY = 1.0
"""Seconds that a service waits for the bus that can start without it."""


class Context:
    """The connection, the outbox and the tasks of a running service."""

    def __init__(self, service: str, settings: Settings, bus: Bus) -> None:
        self.service = service
        self.host = settings.host
        self.instance = uuid7()
        self.bus = bus
        self.spool_folder = str(Path(settings.state_dir) / FOLDER) if settings.spool_limit else ""
        self.outbox = Outbox(bus, service, settings.host, self.instance, self._disk_queue(settings))
        self.stopping = asyncio.Event()
        self.log = log.get(service)
        self.failure: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def _disk_queue(self, settings: Settings) -> DiskQueue | None:
        if not self.spool_folder:
            return None
        return DiskQueue(Path(self.spool_folder), self.service, self.instance, settings.spool_limit << 20)

    def record(self, event: Event, app: str = subjects.NO_APP) -> None:
        """Publish an event of this service, about an app or about itself. Never waits."""
        self.outbox.record(event, app)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the service. If it fails, the service stops and its process exits with code 1."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        self.failure = self.failure or task.exception()
        self.log.error("task failed, stopping", task=task.get_name(), reason=str(task.exception()))
        self.stopping.set()

    async def cancel_tasks(self) -> None:
        """Cancel all spawned tasks."""
        while running := [task for task in self._tasks if not task.done()]:  # one that ends may spawn another
            await tasks.cancel(*running)


Main = Callable[[Context], Awaitable[None]]


def run(
    service: str,
    unit: str,
    settings: Settings,
    main: Main,
    stop_timeout: float = STOP_TIMEOUT,
    needs_bus: bool = True,
) -> None:
    """Run a service in this process until SIGTERM or SIGINT; unless it needs the bus, also before the bus is up.

    `main` starts the service, spawns what runs beside it, waits for `context.stopping` and stops, within
    `stop_timeout` seconds. `unit` runs at most once on a host ("proxy:8080"). Raises the error that ended the service,
    if there was one.
    """
    survive_hangup()
    with used(settings.state_dir):
        asyncio.run(_run(service, unit, settings, main, stop_timeout, needs_bus))


async def _run(
    service: str,
    unit: str,
    settings: Settings,
    main: Main,
    stop_timeout: float = STOP_TIMEOUT,
    needs_bus: bool = True,
) -> None:
    wanted = limits(settings)
    patience = settings.bus_timeout if needs_bus else min(settings.bus_timeout, BRIEFLY)
    bus = await Bus.connect(service, credentials.find(settings, service), patience, needs_bus)
    if settings.nats_url and bus.is_connected:  # the embedded bus has its streams already
        try:
            await ensure_streams(bus, wanted)
        except BaseException:
            await bus.close()
            raise
    context = Context(service, settings, bus)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, ignore_hangup, service)
    outbox = asyncio.create_task(context.outbox.run(), name="outbox")
    context.record(ServiceStarted(time.time(), unit, VERSION, os.getpid()))
    context.spawn(_heartbeat(context, WatchdogPing(os.environ)), "heartbeat")
    context.spawn(leave_partitioned_server(bus), "steering")
    try:
        await _until_done(context, main, stop_timeout)
    finally:
        await context.cancel_tasks()
        context.record(ServiceStopped(time.time(), str(context.failure) if context.failure else "stopped"))
        await context.outbox.flush(FLUSH_TIMEOUT)
        outbox.cancel()  # once: it stores what the bus has not taken, however slow the disk is
        await asyncio.gather(outbox, return_exceptions=True)
        await bus.close()
    if context.failure:
        raise context.failure


def survive_hangup() -> None:
    """Keep SIGHUP from ending this process, before its event loop runs. A terminal that closes sends it."""
    signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, not SIG_IGN: programs that it starts get the default


def ignore_hangup(service: str = "supervisor") -> None:
    """Say that SIGHUP changes nothing here."""
    log.get(service).info("SIGHUP is ignored: this command follows no file; restart it to change its options")


async def _until_done(context: Context, main: Main, stop_timeout: float) -> None:
    working = asyncio.create_task(_main(context, main), name="main")
    stopping = asyncio.create_task(context.stopping.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=stop_timeout)
        if not working.done():
            context.log.error("not stopped in time, giving up", seconds=stop_timeout)
    finally:
        await tasks.cancel(working, stopping, again=CLEAN_UP)


async def _main(context: Context, main: Main) -> None:
    try:
        await main(context)
    except LongshoreError as error:
        context.failure = error
    except Exception as error:
        context.failure = error
        context.log.exception("failed")


async def _heartbeat(context: Context, watchdog: WatchdogPing) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        watchdog.ping()
        await asyncio.sleep(HEARTBEAT_INTERVAL)
        lag = max(0.0, loop.time() - before - HEARTBEAT_INTERVAL)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        context.record(
            ServiceHeartbeat(
                time.time(),
                rss=resident_bytes(os.getpid()),
                cpu=usage.ru_utime + usage.ru_stime,
                loop_lag=lag,
                spool_batches=context.outbox.depth,
                spool_bytes=context.outbox.size,
            )
        )


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if it is gone (proc(5), statm)."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
