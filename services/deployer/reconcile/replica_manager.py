"""Starts and stops replicas, handles their exits, and records both."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

import msgspec

from schemas.events import (
    Event,
    ReplicaAdopted,
    ReplicaDrained,
    ReplicaDraining,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaRouted,
    ReplicaStarted,
)
from schemas.routing import Artifact, BackendState, authority
from services.common.errors import LongshoreError
from services.common.process.lifecycle import Context
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.reconcile.deployment import Deployment
from services.deployer.reconcile.replica_set import ManagedReplica, ReplicaSet
from services.deployer.rollout import actions
from services.deployer.rollout.backoff import Backoff
from services.deployer.rollout.replica import change
from services.deployer.runtime.exit_text import describe_exit
from services.deployer.runtime.protocol import Exit, Found, Running, Runtime, Spec
from services.deployer.settings import DeployerSettings

OUTPUT_TIMEOUT = 5.0
"""Seconds to read the last lines of a replica that failed: an engine that hangs must not hold up the rollback."""


class Restart(msgspec.Struct, frozen=True):
    """A replica that ended runs again, restarted by its engine."""

    id: str
    running: Running


class ReplicaManager:
    """Applies the rollout's actions to replicas, and notices their exits."""

    def __init__(
        self,
        context: Context,
        settings: DeployerSettings,
        store: DecisionStore,
        deployment: Deployment,
        replica_set: ReplicaSet,
        runtime: Runtime,
        wake: Callable[[], None],
    ) -> None:
        self.backoff = Backoff()
        self._context = context
        self._settings = settings
        self._store = store
        self._deployment = deployment
        self._replica_set = replica_set
        self._runtime = runtime
        self._wake = wake
        self._news: deque[tuple[float, Exit | Restart]] = deque()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._log = context.log
        runtime.on_exit = self._on_exit
        runtime.on_restart = self._on_restart
        runtime.on_change = wake

    async def adopt(self, routed: dict[str, BackendState], generation: int) -> None:
        """Take over the replicas of an earlier deployer. `routed`: the backends of its last route."""
        for found in await self._runtime.adopt():
            if found.exit:
                is_expected = found.stopping or found.draining
                self._record_exit(time.time(), found.exit, found, "stopped" if is_expected else "")
            else:
                self._take_over(found, routed.get(found.id), generation)

    def start(self, slot: int) -> None:
        """Start a replica of the target in a slot. Returns at once."""
        release, revision = self._deployment.release, self._deployment.target
        identity = self._replica_set.new_id(release, slot)
        replica = ManagedReplica(id=identity, release=release, revision=revision, slot=slot, since=math.inf)
        replaces = self._replica_set.has_failed(slot, revision)
        self._replica_set.add(replica)
        self._fetching[replica.id] = self._context.spawn(self._start(replica, replaces), f"start {replica.id}")

    def change(self, replica: ManagedReplica, action: actions.Action) -> None:
        """Apply one action of the rollout to one replica."""
        now, before = time.monotonic(), replica.route_since
        change(replica, action, now)
        match action:
            case actions.MarkReady():
                self._record(ReplicaReady, replica, duration=now - replica.since)
            case actions.Activate() | actions.Drain() | actions.Unroute():
                replica.generation = None
            case actions.Signal():
                self._runtime.drain(replica.id, replica.drain_signal)
            case actions.Stop():
                self._stop(replica)
        if isinstance(action, actions.Drain):
            replica.is_announced = False
            self._record(ReplicaDraining, replica)
        if isinstance(action, actions.Unroute):
            self._record(ReplicaDrained, replica, cut=replica.connections, duration=now - before)

    async def last_lines(self, replica: str) -> str:
        """Return the last lines of a replica's output; nothing when they do not come in time."""
        try:
            async with asyncio.timeout(OUTPUT_TIMEOUT):
                return await self._runtime.outputs.last_lines(replica)
        except TimeoutError:
            return ""

    def announce(self) -> None:
        """Record the replicas that take traffic since the proxy follows."""
        for replica in self._replica_set.replicas.values():
            if replica.serves and not replica.is_announced:
                replica.is_announced = True
                self._record(ReplicaRouted, replica, duration=time.monotonic() - replica.route_since)

    def handle_exits(self) -> None:
        """Remove the replicas that ended, or take them out of the route until they run again."""
        while self._news:
            moment, news = self._news.popleft()
            replica = self._replica_set.replicas.get(news.id)
            if replica and isinstance(news, Restart):
                self._came_back(moment, replica, news.running)
            elif replica and isinstance(news, Exit):
                self._ended(moment, replica, news)

    def _take_over(self, found: Found, place: BackendState | None, generation: int) -> None:
        running, now = found.running, time.monotonic()
        assert running
        replica = ManagedReplica(
            id=found.id,
            release=found.release,
            revision=found.revision,
            slot=found.slot,
            since=now,
            running=True,
            address=running,
            options=found.options,
        )
        replica.drain_signal, replica.signalled = running.drain_signal, found.draining
        replica.leaving = "replaced" if found.draining else ""
        if place and self._replica_set.was_probed(found.id, running):
            replica.ready, replica.is_announced = True, place == "active"
            replica.route, replica.route_since, replica.generation = place, now, generation
        if found.stopping:
            replica.leaving, replica.stopping_since = "replaced", now
            self._runtime.stop(found.id, self._settings.stop_timeout)
        self._replica_set.add(replica)
        address = authority(running.host, running.port)
        self._store.record(
            ReplicaAdopted(
                time.time(), replica=found.id, release=found.release, address=address, pid=running.pid, slot=found.slot
            )
        )
        self._log.info("replica adopted", replica=found.id, release=found.release, address=address)

    async def _start(self, replica: ManagedReplica, replaces: bool) -> None:
        began = time.monotonic()
        try:
            artifact = await self._fetch(replica)
            options, revision = self._deployment.options.of(replica.revision), replica.revision
            spec = Spec(replica.id, self._settings.app, replica.release, replica.slot, artifact, options, revision)
            running = await self._runtime.start(spec)
        except LongshoreError as error:
            self._replica_set.remove(replica.id)
            self._record_failure(replica, "start", str(error), 0.0)
        else:
            replica.running, replica.address, replica.drain_signal = True, running, running.drain_signal
            address, took = authority(running.host, running.port), time.monotonic() - began
            facts = {"release": replica.release, "address": address, "pid": running.pid, "slot": replica.slot}
            self._record(ReplicaStarted, replica, **facts, duration=took, replaces=replaces)
            self._replica_set.died.pop(replica.slot, None)
            if replica.stopping_since is not None:
                self._stop(replica)
        self._wake()

    async def _fetch(self, replica: ManagedReplica) -> Artifact:
        """Bring the release to this host, however long that takes. Can be cancelled at any moment."""
        try:
            artifact = await self._deployment.artifact(replica.release, replica.revision)
            await self._runtime.pull(artifact, self._deployment.options.of(replica.revision))
        finally:
            self._fetching.pop(replica.id, None)
        replica.since = time.monotonic()
        self._wake()
        return artifact

    def _stop(self, replica: ManagedReplica) -> None:
        """Stop a replica, or cancel its start. One whose process is just starting is stopped once it runs."""
        if fetching := self._fetching.pop(replica.id, None):
            fetching.cancel()
            self._replica_set.remove(replica.id)
        elif replica.running:
            self._runtime.stop(replica.id, self._settings.stop_timeout)

    def _on_exit(self, end: Exit) -> None:
        self._news.append((time.time(), end))
        self._wake()

    def _on_restart(self, replica: str, running: Running) -> None:
        self._news.append((time.time(), Restart(replica, running)))
        self._wake()

    def _ended(self, moment: float, replica: ManagedReplica, end: Exit) -> None:
        now = time.monotonic()
        if end.restarts and replica.signalled:
            self.change(replica, actions.Stop(replica.id))
            return
        if end.restarts:
            self._went_down(moment, replica, end)
            return
        self._replica_set.remove(end.id)
        if replica.signalled and replica.route == "draining":
            self._record(ReplicaDrained, replica, duration=now - replica.route_since)
        if replica.stopping_since is not None or replica.signalled:
            self._record_exit(moment, end, replica, replica.leaving, now - (replica.stopping_since or now))
        else:
            self._record_exit(moment, end, replica)
            self._attribute_exit(replica, end)

    def _went_down(self, moment: float, replica: ManagedReplica, end: Exit) -> None:
        """Keep the place of a replica that its engine restarts; it must become ready again."""
        self._store.record(ReplicaExited(moment, end.id, replica.release, end.code, end.oom, end.output))
        self._log.error("replica exited, its restart policy starts it again", replica=end.id, how=describe_exit(end))
        if self._deployment.is_rolling_out and not replica.ready:
            self._attribute_exit(replica, end)
        if replica.route == "active":
            self.change(replica, actions.Drain(replica.id))
        if replica.ready:
            replica.ready, replica.since = False, time.monotonic()
        replica.address = None

    def _came_back(self, moment: float, replica: ManagedReplica, running: Running) -> None:
        replica.address, replica.generation = running, None
        address = authority(running.host, running.port)
        self._store.record(
            ReplicaStarted(
                moment,
                self._deployment.id,
                replica.id,
                release=replica.release,
                address=address,
                pid=running.pid,
                slot=replica.slot,
                replaces=True,
            )
        )
        self._log.info("replica runs again", replica=replica.id, address=address)

    def _record_exit(
        self, moment: float, end: Exit, of: Found | ManagedReplica, retired: str = "", stop: float = 0.0
    ) -> None:
        if retired:
            self._store.record(ReplicaRetired(moment, self._deployment.id, end.id, reason=retired, duration=stop))
        else:
            self._replica_set.died[of.slot] = of.revision
            self._store.record(ReplicaExited(moment, end.id, of.release, end.code, end.oom, end.output))
            output = self._runtime.output(end.id)
            self._log.error("replica exited", replica=end.id, how=describe_exit(end), output=output)
        self._runtime.forget(end.id)

    def _attribute_exit(self, replica: ManagedReplica, end: Exit) -> None:
        uptime = time.monotonic() - replica.since
        has_served = replica.is_announced or replica.route == "draining"
        phase = "drain" if has_served else "route" if replica.ready else "check"
        reason = f"{replica.id} {describe_exit(end)} after {uptime:.1f} s"
        self._record_failure(replica, phase, reason, uptime, end.output)

    def _record_failure(
        self, replica: ManagedReplica, phase: str, reason: str, uptime: float, output: str = ""
    ) -> None:
        """Fail the deployment because of a replica of the target, or make the replica's slot wait."""
        if replica.revision != self._deployment.target or replica.leaving:
            return
        if self._deployment.is_rolling_out:
            self._deployment.report_failure(phase, reason, output)
            return
        wait = self.backoff.crashed(replica.slot, uptime, time.monotonic())
        self._log.warning("replica is replaced", replica=replica.id, reason=reason, seconds=wait)

    def _record(self, kind: Callable[..., Event], replica: ManagedReplica, **details: object) -> None:
        self._store.record(kind(time.time(), self._deployment.id, replica.id, **details))
