"""The removal of applications that are no longer in the plan."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from services.common import log, tasks
from services.common.errors import LongshoreError
from services.common.process.child import Child
from services.deployer.reconcile.own_removal import CONFIGURATION
from services.deployer.reconcile.removal import left, remove, until_removed
from services.deployer.service import REMOVE
from services.deployer.settings import DeployerSettings

RETRY = 10.0
MARGIN = 15.0
"""Seconds more than a drain and a stop may take, for a deployer that has just started, and for the bus."""
BY = CONFIGURATION
SWEEP = ""
"""The name of the task that looks for applications; each other task has the name of an application."""


class Removals:
    """Removes applications; retries each until it is done or the application is back."""

    def __init__(self) -> None:
        self._hurry: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._log = log.get("supervisor")

    async def by_deployer(self, settings: DeployerSettings, child: Child, stop_timeout: float) -> None:
        """Have the deployer drain and stop its replicas and remove its application; then stop the deployer.

        It is stopped early when it takes longer than a drain may take, as without a bus; `begin` does the rest then.
        """
        hurry = self._hurry[settings.app] = asyncio.Event()
        each = settings.drain_time + settings.stop_timeout
        asking = asyncio.create_task(until_removed(settings, lambda: child.signal(REMOVE)))
        hurrying = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait({asking, hurrying}, timeout=each + MARGIN, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and not asking.exception():
                self._log.info("application removed", app=settings.app)
            elif not hurry.is_set():
                self._log.warning("the replicas have not ended in time and keep running", app=settings.app)
        finally:
            await tasks.cancel(asking, hurrying)
            await child.stop(stop_timeout)

    def hurry(self, apps: Iterable[str] | None = None) -> None:
        """Stop the deployers of these applications, or of all, before their replicas have drained."""
        for app in list(self._hurry) if apps is None else apps:
            if app in self._hurry:
                self._hurry.pop(app).set()

    def begin(self, settings: DeployerSettings) -> None:
        """Remove an application whose deployer has ended."""
        self._tasks[settings.app] = asyncio.create_task(self._remove(settings))

    def sweep(self, deployers: list[DeployerSettings]) -> None:
        """Start removing those that left the plan while Longshore was stopped. Does not wait."""
        self._tasks[SWEEP] = asyncio.create_task(self._sweep(deployers))

    async def _sweep(self, deployers: list[DeployerSettings]) -> None:
        try:
            gone = set(await left(deployers[0])) - {deployer.app for deployer in deployers}
        except LongshoreError as error:
            self._log.warning("cannot look for applications that left the plan", reason=str(error))
            return
        for app in sorted(gone):
            self.begin(msgspec.structs.replace(deployers[0], app=app))

    async def end(self, apps: Iterable[str] | None = None) -> None:
        """Cancel the removals of these applications, or all."""
        names = list(self._tasks) if apps is None else [SWEEP, *apps]
        await tasks.cancel(*[self._tasks.pop(name) for name in names if name in self._tasks])

    async def _remove(self, settings: DeployerSettings) -> None:
        last_reason = ""
        while True:
            try:
                await remove(settings, BY)
                self._log.info("application removed", app=settings.app)
                return
            except LongshoreError as error:
                if str(error) != last_reason:
                    self._log.warning("not removed yet, retrying", app=settings.app, reason=str(error))
                last_reason = str(error)
                await asyncio.sleep(RETRY)
