"""What the rollout may ask for. Each is done by the reconcile loop, and changes what is true."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Pull(msgspec.Struct, frozen=True):
    """Bring the release that is to be deployed onto this host."""


class Start(msgspec.Struct, frozen=True):
    """Start a replica of the target."""

    slot: int


class MarkReady(msgspec.Struct, frozen=True):
    """The replica is ready."""

    id: str


class Activate(msgspec.Struct, frozen=True):
    """Route new connections to the replica."""

    id: str


class Drain(msgspec.Struct, frozen=True):
    """Route no new connections to the replica; it keeps those that it has."""

    id: str


class Signal(msgspec.Struct, frozen=True):
    """Send the replica its drain signal: it has new connections no more, and may close those that it has."""

    id: str


class Unroute(msgspec.Struct, frozen=True):
    """Take the replica out of the route; connections that it still has end."""

    id: str


class Retire(msgspec.Struct, frozen=True):
    """The replica is on its way out from now on."""

    id: str
    reason: str


class Unretire(msgspec.Struct, frozen=True):
    """The replica is needed after all and no longer on its way out."""

    id: str


class Stop(msgspec.Struct, frozen=True):
    """End the replica's process."""

    id: str


class Succeed(msgspec.Struct, frozen=True):
    """The deployment is done."""


class Fail(msgspec.Struct, frozen=True):
    """The deployment has failed."""

    phase: str
    reason: str


class RollbackDone(msgspec.Struct, frozen=True):
    """Nothing of the failed deployment is left."""


_OfOneReplica: TypeAlias = MarkReady | Activate | Drain | Signal | Unroute | Retire | Unretire | Stop
Action: TypeAlias = Pull | Start | Succeed | Fail | RollbackDone | _OfOneReplica
