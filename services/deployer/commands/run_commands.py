"""Commands about what runs, not about which release: restart, scale, stop, start, remove, drain."""

from __future__ import annotations

import time

from msgspec.structs import replace

from schemas.commands import Drain, Remove, Reply, Restart, Scale, Start, Stop
from schemas.events import ScaleSet
from services.common.errors import LongshoreError
from services.common.text import first_few
from services.deployer.commands.requester import Requester, changing, refuse_idle, refuse_ongoing
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.rollout.decisions import desired
from services.deployer.settings import MOST_REPLICAS


class RunCommands:
    """Executes the commands; each is a decision, which the reconcile loop carries out."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._store = reconciler.store
        self._option = reconciler.settings.replicas

    async def execute(self, command: Restart | Scale | Stop | Start | Remove | Drain, requester: Requester) -> Reply:
        """Execute a command. Raises LongshoreError if it is refused."""
        async with changing(self._reconciler, requester):
            refuse_ongoing(self._reconciler)
            match command:
                case Restart():
                    return await self._restart(requester)
                case Scale(replicas=replicas):
                    return await self._scale(replicas, requester)
                case Stop():
                    return await self._stop(requester)
                case Start():
                    return await self._start(requester)
                case Remove():
                    return await self._remove(requester)
                case Drain(replica=replica):
                    return self._drain(replica)

    async def _restart(self, requester: Requester) -> Reply:
        refuse_idle(self._reconciler)
        release = self._store.decisions.current
        if not release:
            raise LongshoreError("nothing was deployed yet: `longshore deploy` first")
        self._reconciler.deployment.options.read()  # files with variables may have changed since the last start
        deployment = await self._reconciler.deployment.restart(requester.by, requester.cause)
        return Reply(True, f"release {release} is being restarted", deployment)

    async def _scale(self, replicas: int, requester: Requester) -> Reply:
        decisions = self._store.decisions
        if not 0 <= replicas <= MOST_REPLICAS:
            raise LongshoreError(f"{replicas} replicas: use 0 to {MOST_REPLICAS}")
        if decisions.stopped:
            refuse_idle(self._reconciler)
        if desired(decisions, self._option) == replicas:
            return Reply(True, f"the number of replicas is {replicas} already", replicas=replicas)
        scaled = replace(decisions, replicas=replicas, replicas_option=self._option)
        await self._store.commit(scaled, ScaleSet(time.time(), replicas, requester.by))
        self._reconciler.manager.backoff.clear()
        return Reply(
            True,
            f"the number of replicas is {replicas} until --replicas changes (now {self._option})",
            replicas=replicas,
        )

    async def _stop(self, requester: Requester) -> Reply:
        decisions = self._store.decisions
        if decisions.stopped:
            return Reply(True, "the application is stopped already", replicas=0)
        await self._store.commit(replace(decisions, stopped=True), ScaleSet(time.time(), 0, requester.by))
        return Reply(True, "the application is stopped until `longshore start`", replicas=0)

    async def _start(self, requester: Requester) -> Reply:
        decisions = self._store.decisions
        if not decisions.stopped:
            return Reply(True, "the application is not stopped")
        started = replace(decisions, stopped=False, removed=False, removed_by="")
        replicas = desired(started, self._option)
        await self._store.commit(started, ScaleSet(time.time(), replicas, requester.by))
        self._reconciler.deployment.options.keep()  # a removal has deleted them
        self._reconciler.manager.backoff.clear()
        self._reconciler.routes.forget()
        return Reply(
            True, f"release {decisions.current or 'none yet'} is started, replicas: {replicas}", replicas=replicas
        )

    async def _remove(self, requester: Requester) -> Reply:
        decisions = self._store.decisions
        if not decisions.removed_by:
            await self._store.commit(replace(decisions, stopped=True, removed_by=requester.by))
        return Reply(True, "the application is removed as soon as its replicas have drained", replicas=0)

    def _drain(self, identity: str) -> Reply:
        replicas = self._reconciler.replica_set.replicas
        if identity not in replicas:
            raise LongshoreError(
                f"no replica {identity!r} runs here; these do: {first_few(sorted(replicas)) or 'none'}"
            )
        self._reconciler.replica_set.replace(identity)
        return Reply(True, f"replica {identity} is stopped as soon as its successor takes traffic")
