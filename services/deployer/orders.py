"""What people ask of the deployer, and its answers."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from schemas import codec
from schemas.commands import Command, Deploy, Drain, Pause, Reply, Resume, Retry, Rollback
from schemas.events import CommandAnswered, DeploymentsPaused, DeploymentsResumed, QuarantineLifted
from services.common import tracing
from services.common.errors import LongshoreError, RegistryError
from services.common.ids import span_id, trace_id
from services.common.tracing import Cause
from services.deployer import choice, versions
from services.deployer.reconcile import Reconciler

NOBODY = "operator"


class Orders:
    """Commands are obeyed one at a time, and never in the middle of a step of the reconcile loop."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._journal = reconciler.journal
        self._deployment = reconciler.deployment
        self._feed = reconciler.feed

    async def answer(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        """The Reply to an encoded Command; never raises for what is in it."""
        return msgspec.json.encode(await self._answer(payload, tracing.cause(headers)))

    async def _answer(self, payload: bytes, cause: Cause) -> Reply:
        try:
            command: Command = codec.value(payload, Command)
        except msgspec.MsgspecError as error:
            return Reply(False, f"not a command: {error}")
        own = Cause(cause.trace or trace_id(), span_id())
        began = time.monotonic()
        try:
            async with self._reconciler.lock:
                reply = await self._obey_for(own, command)
        except LongshoreError as error:
            reply = Reply(False, str(error))
        finally:
            self._reconciler.wake()
        self._tell(command, reply, time.monotonic() - began, own, cause)
        return reply

    async def _obey_for(self, cause: Cause, command: Command) -> Reply:
        """A deployment that begins now is a part of the command's trace."""
        self._deployment.cause = cause
        try:
            return await self._obey(command, command.by or NOBODY)
        finally:
            self._deployment.cause = Cause()

    def _tell(self, command: Command, reply: Reply, took: float, own: Cause, caller: Cause) -> None:
        self._journal.record(
            CommandAnswered(
                time.time(),
                str(command.__struct_config__.tag),
                command.by or NOBODY,
                reply.ok,
                reply.message,
                took,
                reply.deployment,
                own.trace,
                own.span,
                caller.span,
                caller.caller,
                caller.caller_parent,
                caller.sent,
            )
        )

    async def _obey(self, command: Command, by: str) -> Reply:
        if isinstance(command, Pause):
            return await self._pause(by)
        if ongoing := self._deployment.ongoing:
            doing = "being rolled back" if ongoing.failed else "being deployed"
            raise LongshoreError(f"release {ongoing.release} is {doing}: wait for its end, then ask again")
        match command:
            case Deploy(release=release):
                return await self._deploy(release, by)
            case Rollback(to=release):
                return await self._rollback(release, by)
            case Resume():
                return await self._resume(by)
            case Retry(release=release):
                return await self._retry(release, by)
            case Drain(replica=replica):
                return self._drain(replica)

    async def _deploy(self, release: str, by: str) -> Reply:
        decisions = self._journal.decisions
        if decisions.paused:
            raise LongshoreError("deployments are paused: `longshore resume` first")
        offered = await self._look()
        chosen = release or offered[0]
        if chosen not in offered:
            raise RegistryError(f"{self._feed.registry.url} offers no release {chosen}; it has {_some(offered)}")
        return await self._begin(chosen, by, pinned="" if chosen == offered[0] else chosen)

    async def _rollback(self, release: str, by: str) -> Reply:
        chosen = release or self._journal.decisions.previous
        if not chosen:
            raise LongshoreError("there is no release before the current one: name one, `longshore rollback RELEASE`")
        return await self._begin(chosen, by, pinned=chosen)

    async def _begin(self, release: str, by: str, pinned: str) -> Reply:
        decisions = self._journal.decisions
        if release in decisions.quarantined:
            raise LongshoreError(
                f"release {release} is quarantined ({decisions.quarantined[release]}): "
                f"`longshore retry {release}` lifts that"
            )
        if release == decisions.current:
            if pinned != decisions.pinned:
                await self._journal.commit(replace(decisions, pinned=pinned))
            return Reply(True, f"release {release} is the current one already")
        deployment = await self._deployment.order(release, by, pinned)
        return Reply(True, f"release {release} is being deployed", deployment)

    async def _pause(self, by: str) -> Reply:
        decisions = self._journal.decisions
        if decisions.paused:
            return Reply(True, "deployments are paused already")
        await self._journal.commit(replace(decisions, paused=True), DeploymentsPaused(time.time(), by))
        return Reply(True, "deployments are paused until `longshore resume`")

    async def _resume(self, by: str) -> Reply:
        decisions = self._journal.decisions
        if not decisions.paused and not decisions.pinned:
            return Reply(True, "deployments were not paused: the newest release is followed")
        followed = replace(decisions, paused=False, pinned="")
        await self._journal.commit(followed, DeploymentsResumed(time.time(), by))
        return await self._follow_up("the newest release is followed again", by)

    async def _retry(self, release: str, by: str) -> Reply:
        decisions = self._journal.decisions
        quarantined = versions.newest_first(decisions.quarantined, pre_releases=True)
        if not quarantined:
            raise LongshoreError("no release is quarantined: nothing to retry")
        chosen = release or quarantined[0]
        if chosen not in decisions.quarantined:
            raise LongshoreError(f"release {chosen} is not quarantined; quarantined: {_some(quarantined)}")
        await self._journal.commit(choice.lifted(decisions, chosen), QuarantineLifted(time.time(), chosen, by))
        return await self._follow_up(f"release {chosen} may be deployed again", by)

    async def _follow_up(self, done: str, by: str) -> Reply:
        """Begin the deployment that is due now, if one is, so that the reply can name it."""
        release = choice.due(
            self._journal.decisions,
            self._feed.offered or [],
            bool(self._reconciler.fleet.replicas),
            self._feed.registry.is_newer,
        )
        if not release:
            return Reply(True, done)
        try:
            deployment = await self._deployment.order(release, by)
        except RegistryError as error:
            return Reply(True, f"{done}; release {release} is deployed as soon as the registry answers ({error})")
        return Reply(True, f"{done}; release {release} is being deployed", deployment)

    def _drain(self, identity: str) -> Reply:
        replicas = self._reconciler.fleet.replicas
        if identity not in replicas:
            raise LongshoreError(f"no replica {identity!r} runs here; these do: {_some(sorted(replicas))}")
        replicas[identity].condemned = True
        return Reply(True, f"replica {identity} goes as soon as its successor takes traffic")

    async def _look(self) -> list[str]:
        """What the registry offers right now. Raises RegistryError when that is nothing."""
        self._feed.offered = await self._feed.registry.offered()
        if not self._feed.offered:
            raise RegistryError(f"{self._feed.registry.url} offers no release")
        return self._feed.offered


def _some(names: list[str]) -> str:
    """A few of the names, and how many more there are."""
    shown = ", ".join(names[:5]) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
