"""Commands of operators to the deployer, and its replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from msgspec.structs import replace

from schemas import codec
from schemas.commands import Abort, Command, Deploy, Drain, Pause, Reply, Resume, Retry, Rollback
from schemas.events import CommandAnswered, DeploymentsPaused, DeploymentsResumed, QuarantineLifted, ReleasePinned
from services.common import tracing
from services.common.bus import deadline
from services.common.errors import BusError, LongshoreError, RegistryError
from services.common.ids import span_id, trace_id
from services.common.text import first_few
from services.common.tracing import Cause
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.reconcile.registry_lookups import RegistryLookups
from services.deployer.reconcile.registry_poller import Resolved
from services.deployer.rollout.decisions import newest_first, without_quarantine

DEFAULT_ACTOR = "operator"
LOOKUP_TIMEOUT = 10.0
"""Seconds for all lookups of one command in the registry. The client waits longer (bus.connection.ANSWER_TIMEOUT)."""
FOLLOW_UP_TIMEOUT = 2.0
"""Seconds that it has once the command has taken effect, and only the reply needs the name of the release."""


class Requester(msgspec.Struct, frozen=True):
    """The actor that sent a command (`by`), and the command's span: a deployment that it starts becomes its child.

    `headers`: those of the request; they hold the deadline until which the client waits for the reply.
    """

    by: str
    cause: Cause
    headers: Mapping[str, str]


class CommandHandler:
    """Executes commands at once, but never in the middle of a step of the reconcile loop.

    A command that needs the registry asks it first, without the lock, so that it delays nothing else. Then it is
    executed against the state of that moment.
    """

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._store = reconciler.store
        self._deployment = reconciler.deployment
        self._poller = reconciler.poller
        self._lookups = RegistryLookups(self._poller.registry.url)

    async def answer(self, payload: bytes, headers: Mapping[str, str]) -> bytes:
        """Execute an encoded Command, and return the encoded Reply. Never raises for the content of a command."""
        return msgspec.json.encode(await self._answer(payload, headers))

    async def _answer(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        cause = tracing.cause(headers)
        try:
            command: Command = codec.value(payload, Command)
        except msgspec.MsgspecError as error:
            return Reply(False, f"not a command: {error}")
        own = Cause(cause.trace or trace_id(), span_id())
        began = time.monotonic()
        try:
            reply = await self._execute(command, Requester(command.by or DEFAULT_ACTOR, own, headers))
        except LongshoreError as error:
            reply = Reply(False, str(error))
        finally:
            self._reconciler.wake()
        self._record(command, reply, time.monotonic() - began, own, cause)
        return reply

    def _record(self, command: Command, reply: Reply, took: float, own: Cause, caller: Cause) -> None:
        self._store.record(
            CommandAnswered(
                time.time(),
                command=str(command.__struct_config__.tag),
                by=command.by or DEFAULT_ACTOR,
                ok=reply.ok,
                message=reply.message,
                duration=took,
                deployment=reply.deployment,
                trace=own.trace,
                span=own.span,
                parent=caller.span,
                caller=caller.caller,
                caller_parent=caller.caller_parent,
                sent=caller.sent,
            )
        )

    async def _execute(self, command: Command, requester: Requester) -> Reply:
        match command:
            case Deploy(release=release):
                return await self._deploy(release, requester)
            case Rollback(to=release):
                return await self._rollback(release, requester)
            case Pause():
                return await self._pause(requester)
            case Resume():
                return await self._resume(requester)
            case Retry(release=release):
                return await self._retry(release, requester)
            case Drain(replica=replica):
                return await self._drain(replica, requester)
            case Abort():
                return await self._abort(requester)

    async def _deploy(self, release: str, requester: Requester) -> Reply:
        self._refuse_ongoing()
        self._refuse_paused()
        async with self._lookups.limited(LOOKUP_TIMEOUT):
            offered = await self._list_releases()
            chosen = release or offered[0]
            if chosen not in offered:
                raise RegistryError(
                    f"{self._poller.registry.url} offers no release {chosen}; it has {first_few(offered)}"
                )
            resolved = await self._resolve(chosen)
        return await self._begin(
            chosen, resolved, requester, "" if chosen == offered[0] else chosen, self._refuse_paused
        )

    async def _rollback(self, release: str, requester: Requester) -> Reply:
        self._refuse_ongoing()
        chosen = release or self._store.decisions.previous
        if not chosen:
            raise LongshoreError("there is no release before the current one: name one, `longshore rollback RELEASE`")
        async with self._lookups.limited(LOOKUP_TIMEOUT):
            resolved = await self._resolve(chosen)
        return await self._begin(chosen, resolved, requester, chosen)

    async def _resolve(self, release: str) -> Resolved | None:
        """Return the artifact to deploy, None if the release is the current one."""
        self._refuse_quarantined(release)
        return None if release == self._store.decisions.current else await self._deployment.resolve(release)

    async def _begin(
        self,
        release: str,
        resolved: Resolved | None,
        requester: Requester,
        pinned: str,
        refuse: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Deploy what was looked up, if that is still possible and `refuse` does not raise."""
        async with self._changing(requester):
            self._refuse_ongoing()
            self._refuse_quarantined(release)
            refuse()
            decisions = self._store.decisions
            if release == decisions.current:
                if pinned != decisions.pinned:
                    event = ReleasePinned(time.time(), pinned, requester.by)
                    await self._store.commit(replace(decisions, pinned=pinned), event)
                return Reply(True, f"release {release} is the current one already")
            if resolved is None:
                raise LongshoreError(f"release {release} has just been replaced by {decisions.current}: ask again")
            deployment = await self._deployment.begin(release, requester.by, resolved, pinned, requester.cause)
        return Reply(True, f"release {release} is being deployed", deployment)

    @contextlib.asynccontextmanager
    async def _changing(self, requester: Requester) -> AsyncIterator[None]:
        """Hold the lock for a change. Raises LateError if the client may have given up while we waited for it."""
        async with self._reconciler.changing():
            deadline.check(requester.headers)
            yield

    def _refuse_ongoing(self) -> None:
        if ongoing := self._deployment.ongoing:
            if ongoing.failed:
                raise LongshoreError(
                    f"release {ongoing.release} is being rolled back: wait for its end, then ask again"
                )
            raise LongshoreError(
                f"release {ongoing.release} is being deployed: wait for its end, or end it with `longshore abort`"
            )

    def _refuse_paused(self) -> None:
        if self._store.decisions.paused:
            raise LongshoreError("deployments are paused: `longshore resume` first")

    def _refuse_quarantined(self, release: str) -> None:
        if reason := self._store.decisions.quarantined.get(release):
            raise LongshoreError(f"release {release} is quarantined ({reason}): `longshore retry {release}` lifts that")

    async def _pause(self, requester: Requester) -> Reply:
        async with self._changing(requester):
            decisions = self._store.decisions
            if decisions.paused:
                return Reply(True, "deployments are paused already")
            await self._store.commit(replace(decisions, paused=True), DeploymentsPaused(time.time(), requester.by))
        return Reply(True, "deployments are paused until `longshore resume`")

    async def _resume(self, requester: Requester) -> Reply:
        async with self._changing(requester):
            self._refuse_ongoing()
            decisions = self._store.decisions
            if not decisions.paused and not decisions.pinned:
                return Reply(True, "deployments were not paused: the newest release is followed")
            followed = replace(decisions, paused=False, pinned="")
            await self._store.commit(followed, DeploymentsResumed(time.time(), requester.by))
        return await self._follow_up("the newest release is followed again", requester)

    async def _retry(self, release: str, requester: Requester) -> Reply:
        async with self._changing(requester):
            self._refuse_ongoing()
            decisions = self._store.decisions
            quarantined = newest_first(decisions.quarantined, self._poller.registry.is_newer)
            if not quarantined:
                raise LongshoreError("no release is quarantined: nothing to retry")
            chosen = release or quarantined[0]
            if chosen not in decisions.quarantined:
                raise LongshoreError(f"release {chosen} is not quarantined; quarantined: {first_few(quarantined)}")
            lifted = QuarantineLifted(time.time(), chosen, requester.by)
            await self._store.commit(without_quarantine(decisions, chosen), lifted)
        return await self._follow_up(f"release {chosen} may be deployed again", requester)

    async def _follow_up(self, done: str, requester: Requester) -> Reply:
        """Begin the deployment that is due now, if there is one, so that the reply can name it.

        The command has taken effect already: an error here does not fail it, and the reconcile loop tries again.
        """
        release = self._next_release()
        if not release:
            return Reply(True, done)
        try:
            async with self._lookups.limited(FOLLOW_UP_TIMEOUT):
                resolved = await self._deployment.resolve(release)
            async with self._changing(requester):
                if ongoing := self._deployment.ongoing:  # the reconcile loop was quicker
                    return Reply(True, f"{done}; release {ongoing.release} is being deployed", ongoing.deployment)
                if release != self._next_release():
                    return Reply(True, done)
                deployment = await self._deployment.begin(release, requester.by, resolved, cause=requester.cause)
        except RegistryError as error:
            return Reply(True, f"{done}; release {release} is deployed as soon as the registry answers ({error})")
        except (BusError, deadline.LateError) as error:
            return Reply(True, f"{done}; release {release} is deployed as soon as the bus allows it ({error})")
        return Reply(True, f"{done}; release {release} is being deployed", deployment)

    def _next_release(self) -> str:
        return self._reconciler.next_release(self._poller.offered or [])

    async def _drain(self, identity: str, requester: Requester) -> Reply:
        async with self._changing(requester):
            self._refuse_ongoing()
            replicas = self._reconciler.replica_set.replicas
            if identity not in replicas:
                raise LongshoreError(
                    f"no replica {identity!r} runs here; these do: {first_few(sorted(replicas)) or 'none'}"
                )
            self._reconciler.replica_set.replace(identity)
        return Reply(True, f"replica {identity} is stopped as soon as its successor takes traffic")

    async def _abort(self, requester: Requester) -> Reply:
        """Abort the deployment under way, or else the commands that still wait for the registry."""
        by = requester.by
        async with self._changing(requester):
            if ongoing := self._deployment.ongoing:
                release = ongoing.release
                if ongoing.failed:
                    raise LongshoreError(f"release {release} is being rolled back already: nothing to abort")
                await self._deployment.fail(self._reconciler.phase(), f"aborted by {by}")
                done = f"the deployment of {release} is aborted: it is rolled back, and quarantined until"
                return Reply(True, f"{done} `longshore retry {release}`", ongoing.deployment)
        if not self._lookups.abort(by):
            raise LongshoreError("no deployment is under way: nothing to abort")
        return Reply(True, "the registry is no longer asked for a release: nothing is deployed")

    async def _list_releases(self) -> list[str]:
        """Ask the registry for its releases, newest first. Raises RegistryError if it has none."""
        offered = await self._poller.refresh()
        if not offered:
            raise RegistryError(f"{self._poller.registry.url} offers no release")
        return offered
