"""What the master and its workers tell each other."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from schemas.routing import Backend

Balance = Literal["round-robin", "least-connections"]


class Listening(msgspec.Struct, array_like=True, frozen=True):
    """A listening socket that the worker inherited as descriptor `fd`. `is_shared`: other workers accept on it too."""

    app: str
    port: int
    fd: int
    is_shared: bool = False


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """How long things may take, in seconds, how many connections a worker may have (0: as many as it can).

    `trace_connections` is the share of them that is traced, from 0 to 1.
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
    """Send connections of this port to these backends from now on; cut those to any other.

    `ejected` are skipped until they are admitted; it concerns only backends that the worker does not know yet.
    `admissions`: a number for each backend, another one whenever it is let in: it joins, has a new address, comes
    back from draining, or is tried again. What a worker says of a backend, it says of one admission.
    """

    app: str
    port: int
    revision: int
    backends: list[Backend]
    ejected: list[str] = []
    admissions: dict[str, int] = {}


class WorkerIdentity(msgspec.Struct, array_like=True, frozen=True):
    """Who a worker is on the log, the last batch that was sealed for it, and where it leaves what nobody takes.

    `blackbox`: a descriptor that it inherited (`services.proxy.crash.blackbox`), -1: none.
    """

    host: str = ""
    instance: str = ""
    sequence: int = 0
    head: bytes = b""
    folder: str = ""
    blackbox: int = -1


class Start(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """The first message: follow these routes, then accept on these sockets."""

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
    """Try a backend again, which answers; the first success of a client is to be reported."""

    app: str
    port: int
    backend: str
    admission: int = 0


class Stop(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Accept no more, let open connections finish within the drain time, then exit."""


class BatchAck(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """A batch that was recorded is on the bus or on disk."""

    sequence: int


# --- worker to master ----------------------------------------------------------------------------------------


class RouteApplied(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """The worker follows a revision. Open connections of each draining backend that has any, and those just cut."""

    app: str
    port: int
    revision: int
    draining: dict[str, int]
    cut: dict[str, int] = {}


class DialFailure(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """A dial failed; the worker skips this backend until it is admitted or its address changes."""

    app: str
    port: int
    backend: Backend
    reason: str
    admission: int = 0


class BackendRecovered(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """A backend that was admitted again took a connection."""

    app: str
    port: int
    backend: str
    admission: int = 0


class BatchSealed(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """A sealed batch of `count` events about an app; `last` is the number of the last one in the black box."""

    app: str
    sequence: int
    count: int
    last: int
    payload: bytes


class Blocked(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """This host keeps the worker from dialing a backend: no free port, no network, a firewall rule."""

    app: str
    port: int
    backend: str
    reason: str


ToWorker: TypeAlias = ApplyRoute | Start | Eject | Readmit | Stop | BatchAck
ToMaster: TypeAlias = RouteApplied | DialFailure | BackendRecovered | BatchSealed | Blocked
Message: TypeAlias = ToWorker | ToMaster
