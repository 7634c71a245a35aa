"""The verdicts about this host's replicas, and their bucket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container

import msgspec

from schemas import codec, subjects
from schemas.routing import Health
from services.common import log
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream.watch import Change, Synced, watch_keys

RETRY_WAIT = 0.5


class Verdicts:
    """The present verdicts. A change never waits; it is written to the bucket as soon as the bus takes it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._current: dict[str, Health] = {}
        self._unwritten: set[str] = set()
        self._wake = asyncio.Event()
        self._log = log.get("health")

    def get(self, key: str) -> Health | None:
        """Return the verdict of a key, None without one."""
        return self._current.get(key)

    def put(self, key: str, health: Health) -> None:
        """Set the verdict of a key."""
        self._current[key] = health
        self._touch(key)

    def delete(self, key: str) -> None:
        """Delete the verdict of a key, if it has one."""
        if self._current.pop(key, None):
            self._touch(key)

    def keep_only(self, keys: Container[str]) -> None:
        """Delete all other verdicts and write these again: the bucket may have been lost with the bus."""
        for key in list(self._current):
            self._touch(key) if key in keys else self.delete(key)

    async def load(self, host: str) -> None:
        """Load the verdicts of the previous instance from the bucket."""
        watch = watch_keys(self._bus, subjects.HEALTH, f"{subjects.token(host)}.>")
        async with contextlib.aclosing(watch):
            async for change in watch:
                if isinstance(change, Synced):
                    return
                self._restore(change)

    async def run(self) -> None:
        """Write changes until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unwritten:
                await self._bus.until_connected()
                await self._write(self._unwritten.pop())

    def _touch(self, key: str) -> None:
        self._unwritten.add(key)
        self._wake.set()

    def _restore(self, change: Change) -> None:
        if change.value is None:
            return
        with contextlib.suppress(msgspec.MsgspecError):
            self._current[change.key] = codec.value(change.value, Health)

    async def _write(self, key: str) -> None:
        health = self._current.get(key)
        try:
            if health:
                await self._bus.put(subjects.HEALTH, key, health)
            else:
                await self._bus.delete(subjects.HEALTH, key)
        except BusError as error:
            self._log.warning("verdict not written, retrying", key=key, reason=str(error))
            self._unwritten.add(key)
            await asyncio.sleep(RETRY_WAIT)
