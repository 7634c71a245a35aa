"""Tells the bus what the proxy serves."""

from __future__ import annotations

import asyncio

from schemas import subjects
from schemas.routing import Serving
from services.common.bus.connection import Bus
from services.common.errors import BusError

INTERVAL = 0.1


class Publisher:
    """Writes the newest Serving of each port, at most ten times a second, again until the bus takes it."""

    def __init__(self, bus: Bus, host: str) -> None:
        self._bus = bus
        self._host = host
        self._wanted: dict[str, Serving] = {}
        self._written: dict[str, Serving] = {}
        self._wake = asyncio.Event()

    def publish(self, serving: Serving) -> None:
        """Have this written soon, unless something newer comes first."""
        self._wanted[subjects.route_key(self._host, serving.app, serving.port)] = serving
        self._wake.set()

    def publish_again(self) -> None:
        """The bus may have forgotten what it was told."""
        self._written.clear()
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._bus.until_connected()
            await self._flush()
            await asyncio.sleep(INTERVAL)

    async def _flush(self) -> None:
        """Write what is not written yet."""
        for key, serving in list(self._wanted.items()):
            if self._written.get(key) == serving:
                continue
            try:
                await self._bus.put(subjects.SERVING, key, serving)
                self._written[key] = serving
            except BusError:
                self._wake.set()
