"""The values of the key-value buckets: what is true now. Written by one service, watched by others."""

from __future__ import annotations

from typing import Literal

import msgspec

BackendState = Literal["active", "draining"]


class Backend(msgspec.Struct, frozen=True):
    """Where one replica answers for one proxy port. `id` is the replica's."""

    id: str
    host: str
    port: int
    state: BackendState = "active"


class Route(msgspec.Struct, frozen=True):
    """The backends of one application's port. A higher generation replaces a lower one."""

    app: str
    port: int
    generation: int
    backends: list[Backend] = []


class Serving(msgspec.Struct, frozen=True):
    """What the proxy makes of a Route: all its workers follow `generation`.

    `draining` counts the open connections of each draining backend; one that is not in it has none left.
    """

    app: str
    port: int
    generation: int
    draining: dict[str, int] = {}


class Check(msgspec.Struct, frozen=True):
    """How a replica is probed. Without a path: the port accepts a connection. Times in seconds."""

    path: str = ""
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 1
    fall: int = 2


class Replica(msgspec.Struct, frozen=True):
    """A running replica, to be probed at this address. `pid`: its process, a new one after a restart (0: unknown)."""

    app: str
    id: str
    release: str
    host: str
    port: int
    check: Check = Check()
    pid: int = 0


class Health(msgspec.Struct, frozen=True):
    """The verdict on a replica since `since` (unix seconds), with the reason of the last failure.

    `starting`: it has never been healthy so far; `reason` is why not, and it is no verdict yet. `pid`: of the process
    that was probed (0: unknown).
    """

    app: str
    replica: str
    healthy: bool
    since: float
    reason: str = ""
    starting: bool = False
    pid: int = 0


class Artifact(msgspec.Struct, frozen=True):
    """What a release's name stood for when it was resolved: its digest, and where its runtime finds it."""

    digest: str = ""
    location: str = ""


class Ongoing(msgspec.Struct, frozen=True):
    """A deployment that has begun and not ended; a restarted deployer goes on with it.

    `pinned` is what Decisions.pinned becomes when it succeeds. `failed`: it is being undone. `started` is in unix
    seconds.
    """

    deployment: str
    release: str
    by: str
    strategy: str
    trace: str
    started: float
    pinned: str = ""
    failed: bool = False


class Decisions(msgspec.Struct, frozen=True):
    """What the deployer of an app on a host has decided; survives every restart.

    `current` serves, `previous` is what a rollback returns to, `pinned` is what an operator chose over the
    registry's newest (empty: follow the registry), `quarantined` maps a release to its reason. `found` is the newest
    release that was announced. `artifacts` holds what the releases named here stand for. `telling`: the encoded events
    of the last decision, until they are on the log; the next deployer tells them if this one could not.
    """

    current: str = ""
    previous: str = ""
    pinned: str = ""
    quarantined: dict[str, str] = {}
    paused: bool = False
    ongoing: Ongoing | None = None
    found: str = ""
    artifacts: dict[str, Artifact] = {}
    telling: bytes = b""


class Lease(msgspec.Struct, frozen=True):
    """Who does what only one may do: an instance, on a host. It is written again and again by its holder.

    `done`: up to this message of the log its work is done, as far as that can be said. `about`: the holder, in words.
    """

    holder: str
    host: str
    done: int = 0
    about: str = ""
