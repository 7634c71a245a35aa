"""The deployment under way, if there is one: how it begins, what it works on, and how it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ImagePulled,
    ReleaseQuarantined,
)
from schemas.routing import Artifact, Ongoing
from services.common.errors import LongshoreError
from services.common.ids import trace_id, uuid7
from services.common.lifecycle import Context
from services.deployer import choice
from services.deployer.journal import Journal
from services.deployer.registry import Registry
from services.deployer.runtime.protocol import Runtime
from services.deployer.settings import DeployerSettings


class Deployment:
    """`failure`: phase and reason of what went wrong, until the rollout takes notice of it."""

    def __init__(
        self,
        context: Context,
        settings: DeployerSettings,
        journal: Journal,
        registry: Registry,
        runtime: Runtime,
        wake: Callable[[], None],
    ) -> None:
        self.pull: Literal["due", "running", "done"] = "due"
        self.failure: tuple[str, str] | None = None
        self.undo_until = math.inf
        self._context = context
        self._settings = settings
        self._journal = journal
        self._registry = registry
        self._runtime = runtime
        self._wake = wake
        self._log = context.log

    @property
    def ongoing(self) -> Ongoing | None:
        return self._journal.decisions.ongoing

    @property
    def id(self) -> str:
        return self.ongoing.deployment if self.ongoing else ""

    @property
    def is_rolling_out(self) -> bool:
        return self.ongoing is not None and not self.ongoing.failed

    @property
    def undoing(self) -> str:
        return self.ongoing.release if self.ongoing and self.ongoing.failed else ""

    @property
    def target(self) -> str:
        """The release that should run."""
        return self.ongoing.release if self.ongoing and self.is_rolling_out else self._journal.decisions.current

    @property
    def strategy(self) -> Literal["rolling", "blue-green"]:
        return "blue-green" if self.ongoing and self.ongoing.strategy == "blue-green" else "rolling"

    async def artifact(self, release: str) -> Artifact:
        """What a release stood for when it was deployed, or stands for now. Raises RegistryError."""
        known = self._journal.decisions.artifacts.get(release)
        return known or await self._registry.resolve(release)

    async def begin(self, release: str, by: str, pinned: str = "") -> str:
        """Start a deployment; its id. Raises RegistryError when there is no such release."""
        artifact = await self._registry.resolve(release, self._before(release))
        decisions, settings = self._journal.decisions, self._settings
        ongoing = Ongoing(uuid7(), release, by, settings.strategy, trace_id(), time.time(), pinned)
        started = DeploymentStarted(
            ongoing.started,
            ongoing.deployment,
            release,
            decisions.current,
            by,
            ongoing.strategy,
            settings.replicas,
            ongoing.trace,
        )
        await self._journal.commit(choice.begun(decisions, ongoing, artifact), started)
        self.pull, self.failure = "due", None
        self._log.info("deployment started", release=release, previous=decisions.current, by=by)
        self._wake()
        return ongoing.deployment

    def _before(self, release: str) -> Artifact | None:
        """What a rollback returns to. One that failed may have been mended under its name since."""
        decisions = self._journal.decisions
        return decisions.artifacts.get(release) if release == decisions.previous else None

    def resume(self, is_here: bool) -> None:
        """Go on with the deployment of an earlier deployer. `is_here`: its release was pulled."""
        self.pull = "done" if is_here else "due"
        if self.ongoing:
            self._log.info("deployment goes on", release=self.ongoing.release, undoing=self.ongoing.failed)
            self._limit_undoing()

    def start_pull(self) -> None:
        self.pull = "running"
        self._context.spawn(self._pull(), f"pull {self.target}")

    async def succeed(self) -> None:
        if ongoing := self.ongoing:
            duration = time.time() - ongoing.started
            ended = DeploymentSucceeded(time.time(), ongoing.deployment, ongoing.release, duration)
            await self._journal.commit(
                choice.succeeded(self._journal.decisions, ongoing, self._registry.is_newer), ended
            )
            self._log.info("deployment succeeded", release=ongoing.release, seconds=round(duration, 3))
            needed = list(self._journal.decisions.artifacts.values())
            self._context.spawn(self._runtime.tidy(needed), f"tidy after {ongoing.release}")

    async def fail(self, phase: str, reason: str) -> None:
        """Quarantine the release, and begin to undo."""
        if ongoing := self.ongoing:
            now = time.time()
            duration = now - ongoing.started
            await self._journal.commit(
                choice.failed(self._journal.decisions, ongoing, reason),
                DeploymentFailed(now, ongoing.deployment, ongoing.release, phase, reason, duration),
                ReleaseQuarantined(now, ongoing.release, reason),
            )
            self.failure = None
            self._limit_undoing()
            self._log.error(
                "deployment failed, release quarantined", release=ongoing.release, phase=phase, reason=reason
            )

    async def undone(self) -> None:
        if ongoing := self.ongoing:
            decisions = self._journal.decisions
            rolled_back = DeploymentRolledBack(time.time(), ongoing.deployment, ongoing.release, decisions.current)
            await self._journal.commit(replace(decisions, ongoing=None), rolled_back)
            self._log.info("deployment rolled back", release=ongoing.release, to=decisions.current or "nothing")

    def _limit_undoing(self) -> None:
        settings = self._settings
        each = settings.health_timeout + settings.drain_time + settings.stop_timeout
        self.undo_until = time.monotonic() + settings.replicas * each

    async def _pull(self) -> None:
        began, deployment, release = time.monotonic(), self.id, self.target
        failure = None
        try:
            await self._runtime.pull(await self.artifact(release))
        except LongshoreError as error:
            failure = ("pull", str(error))
        if self.id == deployment:
            self.pull, self.failure = "done", failure or self.failure
            if failure is None:
                self._journal.record(ImagePulled(time.time(), deployment, release, time.monotonic() - began))
            self._wake()
