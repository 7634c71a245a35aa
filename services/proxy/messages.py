"""The messages between the master and its workers."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from schemas.chain import SealedBatch
from schemas.routing import Backend

Balance = Literal["round-robin", "least-connections"]


class Listening(msgspec.Struct, array_like=True, frozen=True):
    """A listening socket that the worker inherited as descriptor `fd`. `is_shared`: other workers accept on it too."""

    app: str
    port: int
    fd: int
    is_shared: bool = False


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """The limits of a worker. Times are seconds; `max_connections` is 0 for as many as the open files allow.

    `trace_connections` is the share of connections that is traced, from 0 to 1.
    """

    hold: float = 10.0
    connect_timeout: float = 5.0
    idle_timeout: float = 300.0
    drain_time: float = 30.0
    max_connections: int = 0
    balance: Balance = "round-robin"
    trace_connections: float = 0.0


# --- master to worker ----------------------------------------------------------------------------------------


class ApplyRoute(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Send connections of this port to these backends from now on; cut connections to any other backend.

    `ejected` backends are skipped until they are readmitted; this concerns only backends that are new to the worker.
    `admissions` has a number for each backend, a new one whenever the backend is let in: it joins, has a new address,
    returns from draining, or is readmitted. Each message of a worker about a backend concerns one admission.
    """

    app: str
    port: int
    revision: int
    backends: list[Backend]
    ejected: list[str] = []
    admissions: dict[str, int] = {}


class WorkerIdentity(msgspec.Struct, array_like=True, frozen=True):
    """The identity of a worker on the log, its last sealed batch, and the folder for unacknowledged batches.

    `blackbox`: a descriptor that the worker inherited (`services.proxy.crash.blackbox`); -1: none.
    """

    host: str = ""
    instance: str = ""
    sequence: int = 0
    head: bytes = b""
    folder: str = ""
    blackbox: int = -1


class Start(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """The first message: apply these routes, then accept on these sockets."""

    limits: Limits
    listening: list[Listening]
    routes: list[ApplyRoute]
    identity: WorkerIdentity = WorkerIdentity()


class Eject(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """Skip a backend: a dial failed, here or in another worker."""

    app: str
    port: int
    backend: str


class Readmit(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """Dial a backend again, which answers now; report the first connection that it takes."""

    app: str
    port: int
    backend: str
    admission: int = 0


class Stop(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Accept no more, let open connections finish within the drain time, then exit."""


class BatchAck(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """A sealed batch is on the bus or on disk."""

    sequence: int


# --- worker to master ----------------------------------------------------------------------------------------


class RouteApplied(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """The worker has applied a revision. `draining` and `cut`: open and just cut connections by backend."""

    app: str
    port: int
    revision: int
    draining: dict[str, int]
    cut: dict[str, int] = {}


class DialFailure(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """A dial failed; the worker skips this backend until it is readmitted or its address changes."""

    app: str
    port: int
    backend: Backend
    reason: str
    admission: int = 0


class BackendRecovered(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """A readmitted backend took a connection."""

    app: str
    port: int
    backend: str
    admission: int = 0


class ForwardBatch(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """Forward a sealed batch to the log; `last` is the number of its last event in the black box."""

    batch: SealedBatch
    sequence: int
    last: int


class Blocked(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """The host keeps the worker from dialing a backend: no free port, no network, a firewall rule."""

    app: str
    port: int
    backend: str
    reason: str


ToWorker: TypeAlias = ApplyRoute | Start | Eject | Readmit | Stop | BatchAck
ToMaster: TypeAlias = RouteApplied | DialFailure | BackendRecovered | ForwardBatch | Blocked
Message: TypeAlias = ToWorker | ToMaster
