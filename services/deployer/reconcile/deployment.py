"""The deployment under way, if there is one: how it begins, its preparation, and how it ends."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

from msgspec.structs import replace

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ImagePulled,
    ReleasePinned,
    ReleaseQuarantined,
)
from schemas.routing import Artifact, Ongoing
from services.common.errors import LongshoreError
from services.common.ids import trace_id, uuid7
from services.common.process.lifecycle import Context
from services.common.tracing import Cause
from services.deployer.hooks.hooks import Hooks
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.reconcile.registry_poller import Resolved
from services.deployer.reconcile.replica_options import ReplicaOptions
from services.deployer.registry import Registry
from services.deployer.rollout.decisions import (
    desired,
    next_options,
    options_to_use,
    revision,
    with_failed,
    with_started,
    with_succeeded,
)
from services.deployer.runtime.protocol import Runtime
from services.deployer.runtime.replica_dir import replica_folder
from services.deployer.settings import DeployerSettings

NO_CAUSE = Cause()
QUARANTINED = {"release": ", release quarantined", "options": ", change of options quarantined"}
Kind: TypeAlias = Literal["release", "options", "restart", "redeploy"]
"""As in DeploymentStarted."""


class Deployment:
    """The deployment under way: first prepared (hook, pull) while the release before keeps running, then rolled out.

    `failure`: phase and reason of the first failure, until the rollout handles it; `output`: the last lines of the
    replica that failed, if one did.
    """

    def __init__(
        self,
        context: Context,
        settings: DeployerSettings,
        store: DecisionStore,
        registry: Registry,
        runtime: Runtime,
        wake: Callable[[], None],
    ) -> None:
        self.failure: tuple[str, str] | None = None
        self.output = ""
        self.undo_until = math.inf
        self._preparation: Literal["due", "hook", "pull", "done"] = "due"
        self._preparing: asyncio.Task[None] | None = None
        self._begun = ("", 0.0)
        self._context = context
        self._settings = settings
        self._store = store
        self._registry = registry
        self._runtime = runtime
        self._wake = wake
        self.options = ReplicaOptions(store, runtime, replica_folder(settings.state_dir, settings.app), context.log)
        self._log = context.log
        self._hooks = Hooks(settings, context.log)

    @property
    def ongoing(self) -> Ongoing | None:
        """The deployment under way in the decisions, None without one."""
        return self._store.decisions.ongoing

    @property
    def id(self) -> str:
        """The deployment that starts and retires replicas now, empty if none does."""
        return self.ongoing.deployment if self.ongoing and (self.is_rolling_out or self.ongoing.failed) else ""

    @property
    def is_pull_due(self) -> bool:
        """The preparation must be started."""
        return self.ongoing is not None and not self.ongoing.failed and self._preparation == "due"

    @property
    def is_rolling_out(self) -> bool:
        """The preparation is done, and the deployment has not failed."""
        return self.ongoing is not None and not self.ongoing.failed and self._preparation == "done"

    @property
    def preparation(self) -> Literal["hook", "pull"]:
        """The phase before the rollout that the deployment is in."""
        return "pull" if self._preparation == "pull" else "hook"

    @property
    def undoing(self) -> str:
        """The revision that failed and is being undone, empty without one."""
        return self.ongoing.deployment if self.ongoing and self.ongoing.failed else ""

    @property
    def target(self) -> str:
        """The revision that should run."""
        return self.ongoing.deployment if self.ongoing and self.is_rolling_out else revision(self._store.decisions)

    @property
    def release(self) -> str:
        """The release that should run."""
        return self.ongoing.release if self.ongoing and self.is_rolling_out else self._store.decisions.current

    @property
    def next_options(self) -> str:
        """The fingerprint of the options that a deployment of the current release is due with, empty if none is."""
        return next_options(self._store.decisions, self.options.fingerprint)

    @property
    def strategy(self) -> Literal["rolling", "blue-green"]:
        """The strategy of the deployment under way."""
        return "blue-green" if self.ongoing and self.ongoing.strategy == "blue-green" else "rolling"

    async def artifact(self, release: str, revision: str) -> Artifact:
        """Return the artifact of a release when it was deployed, else what it stands for now. Raises RegistryError."""
        ongoing = self.ongoing
        is_new = ongoing is not None and ongoing.deployment == revision and ongoing.artifact != Artifact()
        known = ongoing.artifact if ongoing and is_new else self._store.decisions.artifacts.get(release)
        return known or await self._registry.resolve(release)

    async def resolve(self, release: str) -> Resolved:
        """Return the artifact that this name stands for now. Raises RegistryError if there is no such release.

        The release that a rollback returns to may still be on this host, and then the registry is not asked.
        """
        began, known = time.monotonic(), self._before(release)
        is_here = known is not None and await self._runtime.holds(known)
        artifact = known if known and is_here else await self._registry.resolve(release, known)
        return Resolved(artifact, time.monotonic() - began)

    async def begin(
        self,
        release: str,
        by: str,
        resolved: Resolved,
        pinned: str = "",
        cause: Cause = NO_CAUSE,
        kind: Kind = "release",
    ) -> str:
        """Start a deployment, and return its id."""
        decisions, settings = self._store.decisions, self._settings
        options = options_to_use(decisions, self.options.fingerprint)
        ongoing = Ongoing(uuid7(), release, by, settings.strategy, cause.trace or trace_id(), time.time(), pinned)
        ongoing = replace(ongoing, artifact=resolved.artifact, kind=kind, options=options)
        started = DeploymentStarted(
            ongoing.started,
            ongoing.deployment,
            release,
            previous=decisions.current,
            by=by,
            strategy=ongoing.strategy,
            replicas=desired(decisions, settings.replicas),
            trace=ongoing.trace,
            resolved=resolved.took,
            parent=cause.span,
            digest=resolved.artifact.digest,
            kind=kind,
            changed=self.options.changed(options),
        )
        await self._store.commit(with_started(decisions, ongoing), started)
        self._preparation, self.failure, self.output = "due", None, ""
        self._begun = (ongoing.deployment, time.monotonic())
        more = {} if kind == "release" else {"kind": str(kind)}
        more |= {"changed": ", ".join(started.changed)} if started.changed else {}
        self._log.info("deployment started", release=release, previous=decisions.current, by=by, **more)
        self._wake()
        return ongoing.deployment

    def _before(self, release: str) -> Artifact | None:
        """Return the artifact that a rollback returns to. A failed release may have been fixed under its name since."""
        decisions = self._store.decisions
        return decisions.artifacts.get(release) if release == decisions.previous else None

    async def restart(self, by: str, cause: Cause = NO_CAUSE, kind: Kind = "restart") -> str:
        """Start a deployment of the current release, and return its id."""
        decisions = self._store.decisions
        known = Resolved(decisions.artifacts.get(decisions.current, Artifact()), 0.0)
        return await self.begin(decisions.current, by, known, decisions.pinned, cause, kind)

    def resume(self, revisions: Collection[str]) -> None:
        """Continue the deployment of an earlier deployer. `revisions`: those of its replicas."""
        if ongoing := self.ongoing:
            self._preparation = "done" if ongoing.deployment in revisions else "due"
            self._log.info("deployment resumes", release=ongoing.release, undoing=ongoing.failed)
            self._limit_undoing()
            if self.is_pull_due and self._settings.before_deploy:
                self._log.warning("before-deploy runs for this deployment, maybe again", release=ongoing.release)

    def start_pull(self) -> None:
        """Start the preparation: the hook before-deploy, then the pull."""
        if ongoing := self.ongoing:
            self._preparation = "hook"
            self._preparing = self._context.spawn(self._prepare(ongoing), f"prepare {ongoing.release}")

    def report_failure(self, phase: str, reason: str, output: str = "") -> None:
        """Have the rollout fail. The first failure counts."""
        if self.failure is None:
            self.failure, self.output = (phase, reason), output

    async def succeed(self) -> None:
        """Make the release the current one, and start the clean-up and the hook after-deploy."""
        if ongoing := self.ongoing:
            duration, previous = self._took(ongoing), self._store.decisions.current
            ended = DeploymentSucceeded(time.time(), ongoing.deployment, ongoing.release, duration)
            changed = ongoing.pinned != self._store.decisions.pinned
            pins = [ReleasePinned(ended.time, ongoing.pinned, ongoing.by)] if changed else []
            decisions = with_succeeded(self._store.decisions, ongoing, self._registry.is_newer)
            await self._store.commit(decisions, ended, *pins)
            self._log.info("deployment succeeded", release=ongoing.release, seconds=round(duration, 3))
            self.options.keep()
            needed = list(self._store.decisions.artifacts.values())
            self._context.spawn(self._runtime.tidy(needed), f"tidy after {ongoing.release}")
            self._context.spawn(self._hooks.after_deploy(ongoing, previous, duration), "after-deploy")

    async def fail(self, phase: str, reason: str, output: str = "") -> None:
        """Quarantine the release, and start to undo its deployment. `output`: the last lines of the failed replica."""
        if ongoing := self.ongoing:
            now, duration = time.time(), self._took(ongoing)
            failed = DeploymentFailed(
                now,
                ongoing.deployment,
                ongoing.release,
                phase=phase,
                reason=reason,
                duration=duration,
                digest=ongoing.artifact.digest,
                output=output,
                kind=ongoing.kind,
            )
            quarantined = [ReleaseQuarantined(now, ongoing.release, reason)] if ongoing.kind == "release" else []
            await self._store.commit(with_failed(self._store.decisions, ongoing, reason, output), failed, *quarantined)
            self.failure, self.output = None, ""
            if self._preparing:
                self._preparing.cancel()
            self._limit_undoing()
            outcome = "deployment failed" + QUARANTINED.get(ongoing.kind, "")
            self._log.error(outcome, release=ongoing.release, phase=phase, reason=reason)
            previous = self._store.decisions.current
            self._context.spawn(self._hooks.on_failure(ongoing, previous, phase, reason, duration), "on-failure")

    async def undone(self) -> None:
        """End a failed deployment whose replicas are gone."""
        if ongoing := self.ongoing:
            decisions = self._store.decisions
            rolled_back = DeploymentRolledBack(time.time(), ongoing.deployment, ongoing.release, decisions.current)
            await self._store.commit(replace(decisions, ongoing=None), rolled_back)
            self._log.info("deployment rolled back", release=ongoing.release, to=decisions.current or "nothing")

    def _took(self, ongoing: Ongoing) -> float:
        """Return the seconds since it began: by the monotonic clock if it began in this process."""
        deployment, began = self._begun
        # The start of an earlier deployer's is known by a clock that may have been set back.
        return time.monotonic() - began if ongoing.deployment == deployment else max(time.time() - ongoing.started, 0.0)

    def _limit_undoing(self) -> None:
        settings = self._settings
        each = settings.health_timeout + settings.drain_time + settings.stop_timeout
        self.undo_until = time.monotonic() + desired(self._store.decisions, settings.replicas) * each

    async def _prepare(self, ongoing: Ongoing) -> None:
        refusal = await self._hooks.before_deploy(ongoing, self._store.decisions.current)
        self._preparation = "pull"
        failure = ("hook", refusal) if refusal else await self._pull(ongoing)
        if self.ongoing == ongoing:
            self._preparation, self.failure = "done", failure
            self._wake()

    async def _pull(self, ongoing: Ongoing) -> tuple[str, str] | None:
        began = time.monotonic()
        try:
            artifact = await self.artifact(ongoing.release, ongoing.deployment)
            await self._runtime.pull(artifact, self.options.of(ongoing.deployment))
        except LongshoreError as error:
            return "pull", str(error)
        self._store.record(ImagePulled(time.time(), ongoing.deployment, ongoing.release, time.monotonic() - began))
        return None
