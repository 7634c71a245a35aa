"""Commands of operators to the deployer, and its replies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from schemas import codec
from schemas.commands import Abort, Command, Deploy, Pause, Reply, Resume, Retry, Rollback
from schemas.events import CommandAnswered, DeploymentsPaused, DeploymentsResumed, QuarantineLifted, ReleasePinned
from schemas.routing import Artifact, Ongoing
from services.common import tracing
from services.common.bus import deadline
from services.common.errors import BusError, LongshoreError, RegistryError
from services.common.ids import span_id, trace_id
from services.common.text import first_few
from services.common.tracing import Cause
from services.deployer.commands.registry_lookups import RegistryLookups
from services.deployer.commands.requester import Requester, changing, refuse_idle, refuse_ongoing
from services.deployer.commands.run_commands import RunCommands
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.reconcile.registry_poller import Resolved
from services.deployer.rollout.decisions import newest_first, without_failed_options, without_quarantine

DEFAULT_ACTOR = "operator"
LOOKUP_TIMEOUT = 10.0
"""Seconds for all lookups of one command in the registry. The client waits longer (bus.connection.ANSWER_TIMEOUT)."""
FOLLOW_UP_TIMEOUT = 2.0
"""Seconds that it has once the command has taken effect, and only the reply needs the name of the release."""


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
        self._running = RunCommands(reconciler)
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
            case Deploy(release=release, force=is_forced):
                return await self._deploy(release, is_forced, requester)
            case Rollback(to=release):
                return await self._rollback(release, requester)
            case Pause():
                return await self._pause(requester)
            case Resume():
                return await self._resume(requester)
            case Retry(release=release):
                return await self._retry(release, requester)
            case Abort():
                return await self._abort(requester)
            case _:
                return await self._running.execute(command, requester)

    async def _deploy(self, release: str, is_forced: bool, requester: Requester) -> Reply:
        refuse_ongoing(self._reconciler)
        refuse_idle(self._reconciler)
        self._refuse_paused()
        async with self._lookups.limited(LOOKUP_TIMEOUT):
            offered = await self._list_releases()
            chosen = release or offered[0]
            if chosen not in offered:
                raise RegistryError(
                    f"{self._poller.registry.url} offers no release {chosen}; it has {first_few(offered)}"
                )
            pinned = "" if chosen == offered[0] else chosen
            if chosen == self._store.decisions.current:
                return await self._redeploy(chosen, pinned, is_forced, requester)
            resolved = await self._resolve(chosen)
        return await self._begin(chosen, resolved, requester, pinned, self._refuse_paused)

    async def _redeploy(self, release: str, pinned: str, is_forced: bool, requester: Requester) -> Reply:
        """Deploy the current release again, from what its name stands for now; without force, compare only."""
        began = time.monotonic()
        artifact = await self._poller.registry.resolve(release)
        resolved = Resolved(artifact, time.monotonic() - began)
        if not is_forced:
            before = self._store.decisions.artifacts.get(release, Artifact()).digest
            reply = await self._begin(release, resolved, requester, pinned, self._refuse_paused)
            return (
                reply
                if before in ("", artifact.digest)
                else replace(reply, message=reply.message + _moved(before, artifact.digest))
            )
        async with changing(self._reconciler, requester):
            refuse_ongoing(self._reconciler)
            refuse_idle(self._reconciler)
            self._refuse_paused()
            deployment = await self._deployment.begin(
                release, requester.by, resolved, pinned, requester.cause, "redeploy"
            )
        return Reply(True, f"release {release} is being deployed again", deployment)

    async def _rollback(self, release: str, requester: Requester) -> Reply:
        refuse_ongoing(self._reconciler)
        refuse_idle(self._reconciler)
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
        async with changing(self._reconciler, requester):
            refuse_ongoing(self._reconciler)
            refuse_idle(self._reconciler)
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

    def _refuse_paused(self) -> None:
        if self._store.decisions.paused:
            raise LongshoreError("deployments are paused: `longshore resume` first")

    def _refuse_quarantined(self, release: str) -> None:
        if reason := self._store.decisions.quarantined.get(release):
            raise LongshoreError(f"release {release} is quarantined ({reason}): `longshore retry {release}` lifts that")

    async def _pause(self, requester: Requester) -> Reply:
        async with changing(self._reconciler, requester):
            decisions = self._store.decisions
            if decisions.paused:
                return Reply(True, "deployments are paused already")
            await self._store.commit(replace(decisions, paused=True), DeploymentsPaused(time.time(), requester.by))
        return Reply(True, "deployments are paused until `longshore resume`")

    async def _resume(self, requester: Requester) -> Reply:
        async with changing(self._reconciler, requester):
            refuse_ongoing(self._reconciler)
            decisions = self._store.decisions
            if not decisions.paused and not decisions.pinned:
                return Reply(True, "deployments were not paused: the newest release is followed")
            followed = replace(decisions, paused=False, pinned="")
            await self._store.commit(followed, DeploymentsResumed(time.time(), requester.by))
        return await self._follow_up("the newest release is followed again", requester)

    async def _retry(self, release: str, requester: Requester) -> Reply:
        async with changing(self._reconciler, requester):
            refuse_ongoing(self._reconciler)
            decisions = self._store.decisions
            options = self._deployment.options.fingerprint
            if not release and options in decisions.failed_options:
                await self._store.commit(without_failed_options(decisions, options))
                return await self._begin_options("the change of options may be deployed again", requester)
            quarantined = newest_first(decisions.quarantined, self._poller.registry.is_newer)
            if not quarantined:
                raise LongshoreError("no release is quarantined: nothing to retry")
            chosen = release or quarantined[0]
            if chosen not in decisions.quarantined:
                raise LongshoreError(f"release {chosen} is not quarantined; quarantined: {first_few(quarantined)}")
            lifted = QuarantineLifted(time.time(), chosen, requester.by)
            await self._store.commit(without_quarantine(decisions, chosen), lifted)
        return await self._follow_up(f"release {chosen} may be deployed again", requester)

    async def _begin_options(self, done: str, requester: Requester) -> Reply:
        """Begin the deployment of other options if it is due. The caller holds the lock."""
        if not self._deployment.next_options:
            return Reply(True, done)
        deployment = await self._deployment.restart(requester.by, requester.cause, "options")
        return Reply(True, f"{done}; they are being deployed", deployment)

    async def _follow_up(self, done: str, requester: Requester) -> Reply:
        """Begin the deployment that is due now, if there is one, so that the reply can name it.

        The command has taken effect already: an error here does not fail it, and the reconcile loop tries again.
        """
        release = self._next_release()
        if not release:
            with contextlib.suppress(BusError, deadline.LateError):  # then the reconcile loop begins it
                async with changing(self._reconciler, requester):
                    if ongoing := self._deployment.ongoing:  # the reconcile loop was quicker
                        return Reply(True, f"{done}; release {ongoing.release} is being deployed", ongoing.deployment)
                    return await self._begin_options(done, requester)
            return Reply(True, done)
        try:
            async with self._lookups.limited(FOLLOW_UP_TIMEOUT):
                resolved = await self._deployment.resolve(release)
            async with changing(self._reconciler, requester):
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
        return self._reconciler.offers.next_release(self._poller.offered or [])

    async def _abort(self, requester: Requester) -> Reply:
        """Abort the deployment under way, or else the commands that still wait for the registry."""
        by = requester.by
        async with changing(self._reconciler, requester):
            if ongoing := self._deployment.ongoing:
                release = ongoing.release
                if ongoing.failed:
                    raise LongshoreError(f"release {release} is being rolled back already: nothing to abort")
                await self._deployment.fail(self._reconciler.phase(), f"aborted by {by}")
                return Reply(
                    True, f"the deployment of {release} is aborted: it is {_aborted(ongoing)}", ongoing.deployment
                )
        if not self._lookups.abort(by):
            raise LongshoreError("no deployment is under way: nothing to abort")
        return Reply(True, "the registry is no longer asked for a release: nothing is deployed")

    async def _list_releases(self) -> list[str]:
        """Ask the registry for its releases, newest first. Raises RegistryError if it has none."""
        offered = await self._poller.refresh()
        if not offered:
            raise RegistryError(f"{self._poller.registry.url} offers no release")
        return offered


def _moved(before: str, now: str) -> str:
    return f"; its name stood for {before} when it was deployed, and stands for {now} now: `longshore deploy --force`"


def _aborted(ongoing: Ongoing) -> str:
    """Return what becomes of an aborted deployment."""
    retry = {"release": f"`longshore retry {ongoing.release}`", "options": "`longshore retry`"}.get(ongoing.kind)
    return f"rolled back, and quarantined until {retry}" if retry else "rolled back"
