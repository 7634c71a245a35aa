"""The actions that a rollout may ask for. The reconcile loop applies each, which changes the facts."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Pull(msgspec.Struct, frozen=True):
    """Bring the release of the deployment to this host."""


class Start(msgspec.Struct, frozen=True):
    """Start a replica of the target."""

    slot: int


class MarkReady(msgspec.Struct, frozen=True):
    """Mark the replica as ready."""

    id: str


class Activate(msgspec.Struct, frozen=True):
    """Route new connections to the replica."""

    id: str


class Drain(msgspec.Struct, frozen=True):
    """Route no new connections to the replica; it keeps its open ones."""

    id: str


class Signal(msgspec.Struct, frozen=True):
    """Send the replica its drain signal: it gets no new connections, and may close its open ones."""

    id: str


class Unroute(msgspec.Struct, frozen=True):
    """Take the replica out of the route; connections that it still has end."""

    id: str


class Retire(msgspec.Struct, frozen=True):
    """Start to retire the replica: drain it, take it out of the route, stop it."""

    id: str
    reason: str


class Unretire(msgspec.Struct, frozen=True):
    """Keep a retiring replica after all."""

    id: str


class Stop(msgspec.Struct, frozen=True):
    """Stop the replica's process."""

    id: str


class Succeed(msgspec.Struct, frozen=True):
    """End the deployment: it has succeeded."""


class Fail(msgspec.Struct, frozen=True):
    """End the deployment: it has failed, because of `replica` if that is not empty."""

    phase: str
    reason: str
    replica: str = ""


class RollbackDone(msgspec.Struct, frozen=True):
    """End the rollback: nothing of the failed deployment is left."""


_OfOneReplica: TypeAlias = MarkReady | Activate | Drain | Signal | Unroute | Retire | Unretire | Stop
Action: TypeAlias = Pull | Start | Succeed | Fail | RollbackDone | _OfOneReplica
