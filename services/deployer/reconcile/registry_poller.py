"""The poller of the registry. It runs beside the reconcile loop, so that a slow registry delays nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from schemas.events import Event, RegistryFailed, RegistryRecovered
from schemas.routing import Artifact
from services.common import log
from services.common.errors import RegistryError
from services.deployer.registry import Registry
from services.deployer.registry.backoff import pause

POLL_TIMEOUT = 60.0
"""Seconds for one poll: several requests of a session, each with its own deadline of 20 s."""


class Resolved(msgspec.Struct, frozen=True):
    """The artifact of a release, and how many seconds the registry took to name it."""

    artifact: Artifact
    took: float


class RegistryPoller:
    """Polls a registry.

    `offered`: the releases of the last successful poll, newest first; None before the first. `resolved`: the
    artifacts of those of them that `wanted` selected.
    """

    def __init__(
        self,
        registry: Registry,
        record: Callable[[Event], None],
        changed: Callable[[], None],
        wanted: Callable[[Sequence[str]], Collection[str]],
    ) -> None:
        """Start without an offer. `wanted` selects from an offer what is about to be recorded as found, or deployed."""
        self.registry = registry
        self.offered: list[str] | None = None
        self.resolved: dict[str, Resolved] = {}
        self._record = record
        self._changed = changed
        self._wanted = wanted
        self._poll_soon = asyncio.Event()
        self._streak = 0
        self._retry_after: float | None = None
        self._log = log.get("deployer")

    async def run(self, interval: float, longest: float) -> None:
        """Poll now and every `interval` seconds; while the registry fails, up to every `longest` seconds."""
        while True:
            await self.poll()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause(interval, longest, self._streak, random.random(), self._retry_after)):
                    await self._poll_soon.wait()

    def poll_soon(self) -> None:
        """Poll again soon, unless the registry fails."""
        if not self._streak:
            self._poll_soon.set()

    async def refresh(self) -> list[str]:
        """Return the releases of this moment, newest first, and keep them as the offer. Raises RegistryError."""
        self.offered = await self.registry.offered()
        return self.offered

    async def poll(self) -> None:
        """Poll once. A failure is recorded, and keeps the last offer."""
        self._poll_soon.clear()
        try:
            async with asyncio.timeout(POLL_TIMEOUT):
                offered = await self.registry.offered()
                resolved = {release: await self._resolve(release) for release in self._wanted(offered)}
        except RegistryError as error:
            self._failed(str(error), error.retry_after)
        except TimeoutError:
            self._failed(f"no answer from {self.registry.url} within {POLL_TIMEOUT:g} s")
        else:
            self._succeeded(offered, resolved)

    def _failed(self, reason: str, retry_after: float | None = None) -> None:
        self._streak += 1
        self._retry_after = retry_after
        self._record(RegistryFailed(time.time(), self.registry.url, reason, self._streak))
        if self._streak == 1:
            self._log.error("registry failed, running replicas stay", reason=reason)

    def _succeeded(self, offered: list[str], resolved: dict[str, Resolved]) -> None:
        self._retry_after = None
        if self._streak:
            self._record(RegistryRecovered(time.time(), self.registry.url, self._streak))
            self._log.info("registry answers again", registry=self.registry.url, failures=self._streak)
            self._streak = 0
        if not offered and offered != self.offered:
            self._log.warning("the registry offers no release", registry=self.registry.url)
        is_news = offered != self.offered or bool(resolved)
        self.offered, self.resolved = offered, resolved
        if is_news:
            self._changed()

    async def _resolve(self, release: str) -> Resolved:
        began = time.monotonic()
        return Resolved(await self.registry.resolve(release), time.monotonic() - began)
