"""The reconcile loop: observe the facts, ask the rollout for a plan, apply it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

from msgspec.structs import replace

from schemas import subjects
from schemas.events import Event, ReleaseFound
from schemas.routing import Artifact, Decisions, Health, Serving
from services.common.errors import BusError, LongshoreError
from services.common.process import lifecycle
from services.common.process.lifecycle import Context
from services.deployer.reconcile import kv
from services.deployer.reconcile.decision_store import DecisionStore, Notify
from services.deployer.reconcile.deployment import Deployment
from services.deployer.reconcile.leadership import Leadership
from services.deployer.reconcile.offers import Offers
from services.deployer.reconcile.own_removal import Removal
from services.deployer.reconcile.parameters import check, limits
from services.deployer.reconcile.registry_poller import RegistryPoller
from services.deployer.reconcile.replica_manager import ReplicaManager
from services.deployer.reconcile.replica_set import ReplicaSet
from services.deployer.reconcile.rollout_order import RolloutOrder
from services.deployer.reconcile.route_publisher import RoutePublisher
from services.deployer.registry import Registry
from services.deployer.rollout import actions, plan
from services.deployer.rollout.decisions import desired, with_inferred, without_outdated_scale
from services.deployer.runtime.options import Options
from services.deployer.runtime.protocol import Runtime
from services.deployer.settings import DeployerSettings

RETRY = 0.5
"""Seconds before the next step when the bus refused a change, or the lease is not held: both pass within seconds."""
STOP_MARGIN = 13.0
"""Seconds of a stopping service's time that are not for replicas: the removal of containers (5), notices (3), the
outbox (3) and the release of the lease."""
STEPS = 100
"""Rounds of one step. No plan needs as many; a plan that contradicts itself must not hold the lock indefinitely."""


class Reconciler:
    """Keeps one application on this host in its desired state."""

    def __init__(
        self,
        context: Context,
        settings: DeployerSettings,
        registry: Registry,
        runtime: Runtime,
        leadership: Leadership,
        notify: Notify,
    ) -> None:
        self.context = context
        self.settings = settings
        self.leadership = leadership
        self._lock = asyncio.Lock()
        self.store = DecisionStore(context, settings.app, notify)
        self.order = RolloutOrder(settings, self.store)
        self.replica_set = ReplicaSet(context.bus, context.host, settings.app, check(settings), runtime.problem)
        self.offers = Offers(self.store, self.order, self.replica_set, registry.is_newer)
        self.poller = RegistryPoller(registry, self._record_unless_removed, self.wake, self.offers.wanted)
        self.routes = RoutePublisher(context.bus, context.host, settings.app, settings.proxy_ports)
        self.deployment = Deployment(context, settings, self.store, registry, runtime, self.wake)
        self.manager = ReplicaManager(
            context, settings, self.store, self.deployment, self.replica_set, runtime, self.wake
        )
        self.removal = Removal(context, settings, self.store, self.routes, self.replica_set)
        self.limits = limits(settings)
        self._news = asyncio.Event()
        self._is_closing = False
        self._epoch = context.bus.epoch
        self._log = context.log

    def wake(self) -> None:
        """Start the next step soon: something may have changed."""
        self._news.set()

    def remove(self) -> None:
        """Remove the application from the host, because its configuration has no more."""
        self.removal.request()
        self.wake()

    async def start(self) -> None:
        """Take over from an earlier deployer, and poll the registry from now on."""
        await self.store.load()
        self.store.decisions = without_outdated_scale(self.store.decisions, self.settings.replicas)
        self.removal.announce()
        await self.replica_set.load()
        routed = await self.routes.load()
        await self.manager.adopt(routed, self.routes.generation)
        self.deployment.options.read_or_find()
        await self._infer_current()
        self.deployment.options.keep()
        self.deployment.resume({replica.revision for replica in self.replica_set.replicas.values()})
        own = f"{subjects.token(self.context.host)}.{self.settings.app}.>"
        await kv.followed(self.context, self.wake, subjects.HEALTH, own, Health, self.replica_set.health)
        await kv.followed(self.context, self.wake, subjects.SERVING, own, Serving, self.routes.serving)
        if self.settings.after:
            await kv.followed(
                self.context, self.wake, subjects.DECISIONS, f"*.{self.settings.app}", Decisions, self.order.decisions
            )
        self.context.spawn(self.poller.run(self.settings.interval, self.settings.max_interval), "registry")

    async def run(self) -> None:
        """Reconcile until the service stops; then leave the replicas running, or stop them."""
        stopping = asyncio.create_task(self._until_stopping())
        try:
            while not self.context.stopping.is_set():
                await self._round()
            if self.settings.stop_containers and not self.leadership.is_lost:
                await self._stop_all()
        finally:
            stopping.cancel()

    async def step(self) -> float:
        """Do all that can be done now. Return the seconds until there is something to do again."""
        async with self.changing():
            await self._after_reconnect()
            await self.store.settle()
            self.manager.handle_exits()
            for _ in range(STEPS):
                await self._take_offer()
                step = await self._advance()
                if not step.actions:
                    return step.wake - time.monotonic()
        return 0.0

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Hold the lock for a change. Raises BusError if another deployer may lead."""
        async with self._lock:
            self.leadership.check()
            yield

    def facts(self) -> plan.Facts:
        """Return the facts of this moment, for the rollout."""
        now = time.monotonic()
        self.replica_set.observe(self.routes, now)
        deployment = self.deployment
        return plan.Facts(
            now=now,
            target="" if self._is_idle else deployment.target,
            desired=desired(self.store.decisions, self.settings.replicas),
            replicas=list(self.replica_set.replicas.values()),
            limits=self.limits,
            strategy=deployment.strategy,
            deploying=deployment.is_rolling_out and not self._is_idle,
            is_pull_due=deployment.is_pull_due and not self._is_idle,
            undoing="" if self._is_idle else deployment.undoing,
            undo_until=deployment.undo_until,
            failure=deployment.failure,
            held=self.manager.backoff.held,
        )

    async def current(self) -> tuple[str, Artifact, Options]:
        """Return the release that runs, with its artifact and options. Raises LongshoreError if there is none yet."""
        release = self.store.decisions.current
        if not release:
            raise LongshoreError(f"no release of {self.settings.app} is deployed yet")
        revision = self.store.decisions.deployment
        return release, await self.deployment.artifact(release, revision), self.deployment.options.of(revision)

    @property
    def _is_idle(self) -> bool:
        """No replica is to run."""
        return self._is_closing or self.store.decisions.stopped or self.removal.is_due

    def phase(self) -> str:
        """Return the phase of the deployment under way."""
        return plan.phase(self.facts()) if self.deployment.is_rolling_out else self.deployment.preparation

    async def _round(self) -> None:
        """Do one step, and wait for the next. Without the bus or the lease, change nothing."""
        self._news.clear()
        if not self.context.bus.is_connected or not self.leadership.is_held:
            await self._pause(RETRY)
            return
        try:
            pause = await self.step()
        except BusError as error:
            self._log.warning("the bus did not take a change, retrying", reason=str(error))
            pause = RETRY
        if self.replica_set.replicas or not self._is_closing:
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.0) if seconds < float("inf") else None):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _advance(self) -> plan.Plan:
        """Apply the next part of the plan, and publish the routes and replicas that follow from it."""
        facts = self.facts()
        self.manager.announce()
        if self.removal.is_due and not self.replica_set.replicas:
            await self.removal.finish()
            return plan.Plan([], math.inf)
        step = plan.plan(facts)
        for action in step.actions:
            self.leadership.check()
            await self._apply(action)
        await self.routes.publish({port.proxy: self.replica_set.backends(port.replica) for port in self.settings.ports})
        self.replica_set.routed(self.routes.generation)
        await self.replica_set.publish()
        return step

    async def _apply(self, action: actions.Action) -> None:
        match action:
            case actions.Pull():
                self.deployment.start_pull()
            case actions.Start(slot=slot):
                self.manager.start(slot)
            case actions.Succeed():
                self.manager.backoff.clear()
                await self.deployment.succeed()
            case actions.Fail(phase=phase, reason=reason, replica=replica):
                self.manager.backoff.clear()
                output = await self.manager.last_lines(replica) if replica else self.deployment.output
                await self.deployment.fail(phase, reason, output)
            case actions.RollbackDone():
                await self.deployment.undone()
            case _:
                self.manager.change(self.replica_set.replicas[action.id], action)

    async def _take_offer(self) -> None:
        """Record the newest release, and begin a deployment when one is due."""
        if self._is_closing or self.removal.is_due:
            return
        offered, resolved, decisions = self.poller.offered or [], self.poller.resolved, self.store.decisions
        if self.offers.is_new(offered) and offered[0] in resolved:
            digest = resolved[offered[0]].artifact.digest
            found = ReleaseFound(time.time(), offered[0], digest, self.poller.registry.url)
            await self.store.commit(replace(decisions, found=offered[0]), found)
        await self.order.note(self.offers.due(offered))
        release = self.offers.next_release(offered)
        if release in resolved:
            await self.deployment.begin(release, "registry", resolved[release])
        elif release:
            self.poller.poll_soon()
        elif self.deployment.next_options:
            await self.deployment.restart("configuration", kind="options")

    def _record_unless_removed(self, event: Event) -> None:
        if not self.removal.is_due:
            self.store.record(event)

    async def _infer_current(self) -> None:
        """Without decisions (the bus was lost), take what most replicas run as the current release and options."""
        decisions = replace(self.store.decisions, after=self.settings.after)
        found = [(one.release, one.revision, one.options) for one in self.replica_set.replicas.values()]
        wanted = self.deployment.options.fingerprint
        decisions = with_inferred(decisions, found, wanted)
        # Other options than those that failed end their quarantine.
        failed = {name: reason for name, reason in decisions.failed_options.items() if name == wanted}
        decisions = replace(decisions, failed_options=failed)
        if (ongoing := decisions.ongoing) and not ongoing.options:  # an earlier version began it
            decisions = replace(decisions, ongoing=replace(ongoing, options=wanted))
        await self.store.commit(decisions)

    async def _after_reconnect(self) -> None:
        """After a reconnect, read and write everything again: the bus may have lost it."""
        epoch = self.context.bus.epoch
        if self._epoch == epoch:
            return
        await self.replica_set.load()
        await self.routes.load()
        await self.store.write()
        self.routes.forget()
        self._epoch = epoch

    async def _stop_all(self) -> None:
        """Drain and stop all replicas, within the time that a stopping service has."""
        available = lifecycle.STOP_TIMEOUT - STOP_MARGIN
        self._is_closing = True
        self.limits = replace(
            self.limits, drain=max(min(self.limits.drain, available - self.settings.stop_timeout), 0.0)
        )
        try:
            async with asyncio.timeout(available):
                while self.replica_set.replicas:
                    await self._round()
        except TimeoutError:
            self._log.error("replicas were not stopped in time", replicas=len(self.replica_set.replicas))

    async def _until_stopping(self) -> None:
        await self.context.stopping.wait()
        self.wake()
