"""The registry's offer, looked at again and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from schemas.events import Event, RegistryFailed, RegistryRecovered
from services.common import log
from services.common.errors import RegistryError
from services.deployer.registry import Registry
from services.deployer.registry.backoff import pause

LOOK_TIMEOUT = 60.0


class Feed:
    """`offered`: the releases of the last successful look, newest first; None before the first."""

    def __init__(self, registry: Registry, record: Callable[[Event], None], changed: Callable[[], None]) -> None:
        self.registry = registry
        self.offered: list[str] | None = None
        self._record = record
        self._changed = changed
        self._streak = 0
        self._retry_after: float | None = None
        self._log = log.get("deployer")

    async def run(self, interval: float, longest: float) -> None:
        """Look every `interval` seconds for ever; up to every `longest` while the registry fails."""
        while True:
            await asyncio.sleep(pause(interval, longest, self._streak, random.random(), self._retry_after))
            await self.look()

    async def look(self) -> None:
        """Look once. A failure is told, and leaves what was known before."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                offered = await self.registry.offered()
        except RegistryError as error:
            self._failed(str(error), error.retry_after)
        except TimeoutError:
            self._failed(f"no answer from {self.registry.url} within {LOOK_TIMEOUT:g} s")
        else:
            self._succeeded(offered)

    def _failed(self, reason: str, retry_after: float | None = None) -> None:
        self._streak += 1
        self._retry_after = retry_after
        self._record(RegistryFailed(time.time(), self.registry.url, reason, self._streak))
        if self._streak == 1:
            self._log.error("registry failed, running replicas are left alone", reason=reason)

    def _succeeded(self, offered: list[str]) -> None:
        self._retry_after = None
        if self._streak:
            self._record(RegistryRecovered(time.time(), self.registry.url, self._streak))
            self._log.info("registry answers again", registry=self.registry.url, failures=self._streak)
            self._streak = 0
        if offered == self.offered:
            return
        self.offered = offered
        if not offered:
            self._log.warning("the registry offers no release", registry=self.registry.url)
        self._changed()
