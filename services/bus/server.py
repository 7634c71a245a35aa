"""The embedded nats-server as a supervised child process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace

from services.bus import binary, configuration
from services.bus.permissions import ADMIN, SYSTEM
from services.bus.recovery import recover
from services.common import log, tasks
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.config.settings import Settings
from services.common.errors import BusError
from services.common.jetstream.provisioning import MAX_BYTES, Limits, ensure_streams, limits
from services.common.jetstream.stream_guard import recreate_missing_stream, remove_old_markers
from services.common.process.child import Child, describe_exit
from services.common.process.environment import usual
from services.common.process.state_lock import lock

STOP_TIMEOUT = 10.0
LEAST_BYTES = 64 << 20
RUNTIME = ("GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT")
"""Variables that configure the runtime of a Go program."""
MAINTENANCE_RETRY = 2.0
"""Seconds until failed maintenance is started again: a lasting failure must not fill the log."""


class Server:
    """nats-server with JetStream under a state directory, on loopback, started again when it dies."""

    def __init__(self, settings: Settings, nats_server: str = "") -> None:
        self._settings = settings
        self._program = nats_server
        self._child: Child | None = None
        self._failure = ""
        self._bus: Bus | None = None
        self._maintenance: asyncio.Task[None] | None = None
        self._resources = contextlib.ExitStack()

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    async def start(self) -> None:
        """Return when the server answers and has its stream and buckets. Raises BusError."""
        program = binary.find(self._program)
        # The server holds the lock, too: a server that outlives a killed parent for a moment still owns the store.
        held = self._resources.enter_context(lock(self._settings.state_dir, "bus", wait=STOP_TIMEOUT))
        try:
            await self._start(program, held)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server; what it stored stays."""
        if self._maintenance:
            await tasks.cancel(self._maintenance)
        if self._bus:
            await self._bus.close()
        if self._child:
            await self._child.stop(STOP_TIMEOUT)
        self._resources.close()

    async def _start(self, program: str, held: int) -> None:
        config = configuration.prepare(self._settings.state_dir)
        command, variables = [program, "--config", str(config)], usual(os.environ, RUNTIME)
        self._child = Child("bus", command, variables, pass_fds=[held], on_exit=self._record_exit)
        await self._child.start()
        try:
            await self._create_streams()
        except BusError as error:
            why = f"nats-server ends with {self._failure}" if self._failure else str(error)
            said = config.with_name("nats.log")
            raise BusError(f"the embedded bus does not start: {why}; see {said}") from None

    async def _create_streams(self) -> None:
        account = credentials.find(self._settings, ADMIN)
        self._bus = await Bus.connect(ADMIN, account, self._settings.bus_timeout)
        wanted = replace(limits(self._settings), usual_bytes=usual_bytes(self._free()))
        await ensure_streams(self._bus, wanted)
        self._maintenance = asyncio.create_task(self._maintain(self._bus, wanted), name="maintenance")

    async def _maintain(self, bus: Bus, wanted: Limits) -> None:
        """Run the maintenance tasks until cancelled; start them again when one fails."""
        while True:
            try:
                await self._run_maintenance(bus, wanted)
            except Exception as error:
                log.get("bus").error("maintenance of the bus failed, retrying", reason=str(error) or repr(error))
            await asyncio.sleep(MAINTENANCE_RETRY)

    async def _run_maintenance(self, bus: Bus, wanted: Limits) -> None:
        system = await Bus.connect(SYSTEM, credentials.find(self._settings, SYSTEM), self._settings.bus_timeout)
        try:
            await _until_one_fails(
                recreate_missing_stream(bus, wanted),
                remove_old_markers(bus),
                recover(system, self._free, self._restart),
            )
        finally:
            await system.close()

    def _restart(self) -> None:
        """End the server; its supervising task starts it again."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)

    def _free(self) -> int:
        """Return the free space in bytes."""
        return shutil.disk_usage(self._settings.state_dir).free

    def _record_exit(self, _child: Child, code: int) -> bool:
        self._failure = describe_exit(code)
        return True


def usual_bytes(free: int) -> int:
    """Return the bytes that a new log may take of the `free` bytes of a disk, so that it does not fill it."""
    return min(MAX_BYTES, max(LEAST_BYTES, free // 2))


async def _until_one_fails(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one fails. Raises what it failed with. (A TaskGroup cancels once, which a task may swallow.)"""
    running = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await tasks.cancel(*running)
