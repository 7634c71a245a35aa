"""The sender of a command, and the checks that most commands share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from services.common.bus import deadline
from services.common.errors import LongshoreError
from services.common.tracing import Cause
from services.deployer.reconcile.reconciler import Reconciler


class Requester(msgspec.Struct, frozen=True):
    """The actor that sent a command (`by`), and the command's span: a deployment that it starts becomes its child.

    `headers`: those of the request; they hold the deadline until which the client waits for the reply.
    """

    by: str
    cause: Cause
    headers: Mapping[str, str]


@contextlib.asynccontextmanager
async def changing(reconciler: Reconciler, requester: Requester) -> AsyncIterator[None]:
    """Hold the lock for a change. Raises LateError if the client may have given up while we waited for it."""
    async with reconciler.changing():
        deadline.check(requester.headers)
        yield


def refuse_ongoing(reconciler: Reconciler) -> None:
    """Raise LongshoreError while a deployment is under way."""
    if ongoing := reconciler.deployment.ongoing:
        if ongoing.failed:
            raise LongshoreError(f"release {ongoing.release} is being rolled back: wait for its end, then ask again")
        raise LongshoreError(
            f"release {ongoing.release} is being deployed: wait for its end, or end it with `longshore abort`"
        )


def refuse_idle(reconciler: Reconciler) -> None:
    """Raise LongshoreError if no replica is to run: a deployment would prove nothing."""
    decisions = reconciler.store.decisions
    if decisions.removed_by:
        app = reconciler.settings.app  # a client no longer finds it by itself
        raise LongshoreError(f"{app} was removed: `longshore start --app {app}` first")
    if decisions.stopped:
        raise LongshoreError("the application is stopped: `longshore start` first")
    if decisions.replicas == 0:
        raise LongshoreError("the application is scaled to 0: `longshore scale 1` first")
