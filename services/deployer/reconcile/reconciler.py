"""The reconcile loop: finds out what is true, asks the rollout what to do, and does it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from schemas import subjects
from schemas.events import ReleaseFound, ScaleSet
from schemas.routing import Check, Health, Serving
from services.common.errors import BusError
from services.common.process import lifecycle
from services.common.process.lifecycle import Context
from services.deployer.reconcile import kv
from services.deployer.reconcile.decision_store import Journal
from services.deployer.reconcile.deployment import Deployment
from services.deployer.reconcile.leadership import Tenure
from services.deployer.reconcile.registry_poller import Feed
from services.deployer.reconcile.replica_manager import Crew
from services.deployer.reconcile.replica_set import Fleet
from services.deployer.reconcile.route_publisher import Router
from services.deployer.registry import Registry
from services.deployer.rollout import actions as act
from services.deployer.rollout import decisions as choice
from services.deployer.rollout import plan as rollout
from services.deployer.runtime.protocol import Runtime
from services.deployer.settings import DeployerSettings

RETRY = 0.5
STOP_MARGIN = 8.0
STEPS = 100

T = TypeVar("T")


class Reconciler:
    """Keeps one application on this host as it should be."""

    def __init__(
        self, context: Context, settings: DeployerSettings, registry: Registry, runtime: Runtime, tenure: Tenure
    ) -> None:
        self.context = context
        self.settings = settings
        self.tenure = tenure
        self._lock = asyncio.Lock()
        self.journal = Journal(context, settings.app)
        self.feed = Feed(registry, self.journal.record, self.wake, self._wanted)
        self.fleet = Fleet(context.bus, context.host, settings.app, check(settings), runtime.problem)
        self.router = Router(context.bus, context.host, settings.app, settings.proxy_ports)
        self.deployment = Deployment(context, settings, self.journal, registry, runtime, self.wake)
        self.crew = Crew(context, settings, self.journal, self.deployment, self.fleet, runtime, self.wake)
        self.limits = limits(settings)
        self._news = asyncio.Event()
        self._is_closing = False
        self._epoch = context.bus.epoch
        self._log = context.log

    def wake(self) -> None:
        """Something may have changed."""
        self._news.set()

    async def start(self) -> None:
        """Take over from an earlier deployer, and look at the registry from now on."""
        self.journal.record(ScaleSet(time.time(), self.settings.replicas))
        await self.journal.load()
        await self.fleet.load()
        routed = await self.router.load()
        await self.crew.adopt(routed, self.router.generation)
        await self._infer_current()
        self.deployment.resume({replica.release for replica in self.fleet.replicas.values()})
        await self._follow(subjects.HEALTH, Health, self.fleet.health)
        await self._follow(subjects.SERVING, Serving, self.router.serving)
        self.context.spawn(self.feed.run(self.settings.interval, self.settings.max_interval), "registry")

    async def run(self) -> None:
        """Reconcile until the service is to stop; then leave the replicas running, or stop them."""
        stopping = asyncio.create_task(self._until_stopping())
        try:
            while not self.context.stopping.is_set():
                await self._round()
            if self.settings.stop_containers and not self.tenure.is_lost:
                await self._stop_all()
        finally:
            stopping.cancel()

    async def step(self) -> float:
        """Do everything that can be done now; how many seconds later there is something to do again at the latest."""
        async with self.changing():
            await self._after_reconnect()
            await self.journal.settle()
            self.crew.bury()
            for _ in range(STEPS):
                await self._take_offer()
                plan = await self._advance()
                if not plan.actions:
                    return plan.wake - time.monotonic()
        return 0.0

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Change something inside, alone. Raises BusError when another deployer may have the application."""
        async with self._lock:
            self.tenure.check()
            yield

    def facts(self) -> rollout.Facts:
        """What is true now, for the rollout."""
        now = time.monotonic()
        self.fleet.observe(self.router, now)
        deployment = self.deployment
        return rollout.Facts(
            now=now,
            target="" if self._is_closing else deployment.target,
            desired=self.settings.replicas,
            replicas=list(self.fleet.replicas.values()),
            limits=self.limits,
            strategy=deployment.strategy,
            deploying=deployment.is_rolling_out and not self._is_closing,
            is_pull_due=deployment.is_pull_due and not self._is_closing,
            undoing="" if self._is_closing else deployment.undoing,
            undo_until=deployment.undo_until,
            failure=deployment.failure,
            held=self.crew.backoff.held,
        )

    def phase(self) -> str:
        """The phase that the deployment under way is in."""
        return rollout.phase(self.facts()) if self.deployment.is_rolling_out else self.deployment.preparation

    async def _round(self) -> None:
        """One step, and the wait for the next. While the bus or our lease is away nothing is changed."""
        self._news.clear()
        if not self.context.bus.is_connected or not self.tenure.is_held:
            await self._pause(RETRY)
            return
        try:
            pause = await self.step()
        except BusError as error:
            self._log.warning("the bus did not take a change, trying again", reason=str(error))
            pause = RETRY
        if self.fleet.replicas or not self._is_closing:
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0.0) if seconds < float("inf") else None):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _advance(self) -> rollout.Plan:
        """Apply what the rollout asks for now, and make it known."""
        facts = self.facts()
        self.crew.announce()
        plan = rollout.plan(facts)
        for action in plan.actions:
            self.tenure.check()
            await self._apply(action)
        await self.router.publish({port.proxy: self.fleet.backends(port.replica) for port in self.settings.ports})
        self.fleet.routed(self.router.generation)
        await self.fleet.publish()
        return plan

    async def _apply(self, action: act.Action) -> None:
        match action:
            case act.Pull():
                self.deployment.start_pull()
            case act.Start(slot=slot):
                self.crew.start(self.deployment.target, slot)
            case act.Succeed():
                self.crew.backoff.clear()
                await self.deployment.succeed()
            case act.Fail(phase=phase, reason=reason):
                self.crew.backoff.clear()
                await self.deployment.fail(phase, reason)
            case act.Undone():
                await self.deployment.undone()
            case _:
                self.crew.change(self.fleet.replicas[action.id], action)

    async def _take_offer(self) -> None:
        """Announce the newest release, and begin a deployment when it is due."""
        offered, resolved, decisions = self.feed.offered or [], self.feed.resolved, self.journal.decisions
        if self._is_new(offered) and offered[0] in resolved:
            digest = resolved[offered[0]].artifact.digest
            found = ReleaseFound(time.time(), offered[0], digest, self.feed.registry.url)
            await self.journal.commit(replace(decisions, found=offered[0]), found)
        release = "" if self._is_closing else self.due(offered)
        if release in resolved:
            await self.deployment.begin(release, "registry", resolved[release])
        elif release:
            self.feed.hurry()

    def _wanted(self, offered: Sequence[str]) -> set[str]:
        """What of an offer is to be announced or deployed."""
        return ({offered[0]} if self._is_new(offered) else set()) | ({self.due(offered)} - {""})

    def _is_new(self, offered: Sequence[str]) -> bool:
        return bool(offered) and offered[0] not in (self.journal.decisions.found, self.journal.decisions.current)

    def due(self, offered: Sequence[str]) -> str:
        """The release that an offer makes us deploy now; empty: none."""
        return choice.due(self.journal.decisions, offered, bool(self.fleet.replicas), self.feed.registry.is_newer)

    async def _infer_current(self) -> None:
        """Without decisions (the bus was lost), what runs is what should run."""
        decisions = self.journal.decisions
        if not decisions.current and not decisions.ongoing and self.fleet.replicas:
            releases = Counter(replica.release for replica in self.fleet.replicas.values())
            decisions = replace(decisions, current=releases.most_common(1)[0][0])
        await self.journal.commit(decisions)

    async def _follow(self, bucket: str, kind: type[T], values: dict[str, T]) -> None:
        """Keep a dict equal to our part of a bucket; returns when it is for the first time."""
        keys = f"{subjects.token(self.context.host)}.{self.settings.app}.>"
        synced = asyncio.Event()

        def changed() -> None:
            synced.set()
            self.wake()

        self.context.spawn(kv.follow(self.context.bus, bucket, keys, kind, values, changed), f"follow {bucket}")
        stopping = asyncio.ensure_future(self.context.stopping.wait())
        first = asyncio.ensure_future(synced.wait())
        await asyncio.wait({first, stopping}, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        stopping.cancel()

    async def _after_reconnect(self) -> None:
        """The bus may have come back without what we wrote."""
        epoch = self.context.bus.epoch
        if self._epoch == epoch:
            return
        await self.fleet.load()
        await self.router.load()
        await self.journal.write()
        self.router.forget()
        self._epoch = epoch

    async def _stop_all(self) -> None:
        """Drain and stop every replica, within the time that a stopping service has."""
        available = lifecycle.STOP_TIMEOUT - STOP_MARGIN
        self._is_closing = True
        self.limits = replace(
            self.limits, drain=max(min(self.limits.drain, available - self.settings.stop_timeout), 0.0)
        )
        try:
            async with asyncio.timeout(available):
                while self.fleet.replicas:
                    await self._round()
        except TimeoutError:
            self._log.error("replicas were not stopped in time", replicas=len(self.fleet.replicas))

    async def _until_stopping(self) -> None:
        await self.context.stopping.wait()
        self.wake()


def check(settings: DeployerSettings) -> Check:
    """How health probes a replica."""
    return Check(settings.health_path, settings.probe_interval, settings.probe_timeout, settings.rise, settings.fall)


def limits(settings: DeployerSettings) -> rollout.Limits:
    """How long the rollout waits for what. A health path proves more than staying up does: then nothing settles."""
    return rollout.Limits(
        settle=0.0 if settings.health_path else settings.settle,
        ready=settings.health_timeout,
        drain=settings.drain_time,
        unhealthy=settings.replace_after,
        stop=settings.stop_timeout + 10.0,
    )
