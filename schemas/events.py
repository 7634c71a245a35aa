"""Every event that a service publishes.

Rules of the wire: names are past tense; an event is encoded as a MessagePack array that starts with its integer
tag; a field is only ever appended, with a default; a tag is never reused. `time` is unix seconds on the producer's
clock; only the order within one producer counts. Durations and latencies are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

import msgspec


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all events: when it happened."""

    time: float


# --- every service -------------------------------------------------------------------------------------------


class ServiceStarted(Event, tag=1, frozen=True, gc=False):
    """An instance began. `unit` runs at most once on a host: a new instance of it ends the one before.

    `parent` is the instance that this one belongs to and ends with (a proxy worker and its master).
    """

    unit: str
    version: str
    pid: int
    parent: str = ""


class ServiceHeartbeat(Event, tag=2, frozen=True, gc=False):
    """Published every few seconds: resident memory, CPU time used since start, and delay of the event loop.

    `spool_batches` and `spool_bytes`: what waits for the bus, in memory or on disk.
    """

    rss: int
    cpu: float
    loop_lag: float
    spool_batches: int = 0
    spool_bytes: int = 0


class ServiceStopped(Event, tag=3, frozen=True, gc=False):
    """The last event of an instance; whatever it had open is closed. `reason`: "stopped", "killed by signal 9"."""

    reason: str


class EventsDropped(Event, tag=4, frozen=True, gc=False):
    """So many events are lost, of which kind: the spool for an unreachable bus was full, or is damaged.

    They are this instance's, or those of earlier ones of its service whose spool it took over.
    """

    count: int
    kinds: dict[str, int] = {}


# --- proxy ---------------------------------------------------------------------------------------------------


class ListenerOpened(Event, tag=10, frozen=True, gc=False):
    """The proxy accepts connections on this port."""

    port: int
    address: str


class ListenerClosed(Event, tag=11, frozen=True, gc=False):
    """The proxy no longer accepts connections on this port."""

    port: int


class ConnectionAccepted(Event, tag=12, frozen=True, gc=False):
    """A client connected, before a backend is picked. `connection` is unique within the instance."""

    connection: int
    port: int


class ConnectionEstablished(Event, tag=13, frozen=True, gc=False):
    """A backend answered. `latency`: of the dial that succeeded; `attempts`: dials made, this one included."""

    connection: int
    port: int
    backend: str
    latency: float
    attempts: int
    held: float = 0.0


class ConnectionProgressed(Event, tag=14, frozen=True, gc=False):
    """A connection that stays open: bytes so far from the client (in) and to the client (out)."""

    connection: int
    port: int
    bytes_in: int
    bytes_out: int


class ConnectionClosed(Event, tag=15, frozen=True, gc=False):
    """A connection ended that was not refused: total bytes from and to the client, seconds since accept.

    `reason`: "eof", "client_reset", "backend_reset", "client_gone" (left before a backend answered), "idle",
    "drained" (cut at the end of the drain time), "shutdown".
    """

    connection: int
    port: int
    backend: str
    bytes_in: int
    bytes_out: int
    duration: float
    reason: str


class ConnectionRefused(Event, tag=16, frozen=True, gc=False):
    """A connection ended without a backend. `reason`: "no_backend" (none within the hold time), "dial_failed"."""

    connection: int
    port: int
    reason: str
    duration: float


class DialFailed(Event, tag=17, frozen=True, gc=False):
    """One attempt to reach a backend failed. `reason`: "refused", "timeout", "reset", "unreachable"."""

    connection: int
    port: int
    backend: str
    latency: float
    reason: str


class BackendJoined(Event, tag=18, frozen=True, gc=False):
    """A backend takes new connections on this port, from now on or again."""

    port: int
    backend: str
    address: str


class BackendLeft(Event, tag=19, frozen=True, gc=False):
    """A backend takes no new connections: it drains, or its route is gone."""

    port: int
    backend: str


class BackendEjected(Event, tag=20, frozen=True, gc=False):
    """A backend that failed a dial is skipped until it answers again (BackendJoined)."""

    port: int
    backend: str
    reason: str


class BackendDrained(Event, tag=21, frozen=True, gc=False):
    """A draining backend has no connection left, after `waited` seconds; `cut` were closed at the deadline."""

    port: int
    backend: str
    cut: int
    waited: float


class ConnectionTraced(Event, tag=22, frozen=True, gc=False):
    """A sampled connection ended, which ConnectionClosed told as well: when what happened, in seconds since its accept.

    `held`, `latency`, `attempts`: as in ConnectionEstablished, which came after `established`. `first_byte`: when the
    client was sent the first byte, -1 if none was. `bytes_in`, `bytes_out`, `reason`: as in ConnectionClosed. One that
    ended without a backend has none here, `established` is -1, and `reason` may be that of ConnectionRefused.
    """

    connection: int
    port: int
    backend: str
    duration: float
    held: float
    latency: float
    attempts: int
    established: float
    first_byte: float
    bytes_in: int
    bytes_out: int
    reason: str


# --- deployer ------------------------------------------------------------------------------------------------


class ReleaseFound(Event, tag=30, frozen=True, gc=False):
    """The registry offers a release that was not seen before."""

    release: str
    digest: str
    registry: str


class DeploymentStarted(Event, tag=31, frozen=True, gc=False):
    """A deployment began. `deployment` is a UUIDv7 and `trace` a W3C trace id; `by`: "registry" or a person.

    `resolved`: seconds that it took before to find out what the release stands for. `parent`: the W3C span id of the
    command that asked for it, if one did; `trace` is that command's trace then.
    """

    deployment: str
    release: str
    previous: str
    by: str
    strategy: str
    replicas: int
    trace: str
    resolved: float = 0.0
    parent: str = ""


class ImagePulled(Event, tag=32, frozen=True, gc=False):
    """The release's files are on the host."""

    deployment: str
    release: str
    duration: float


class ReplicaStarted(Event, tag=33, frozen=True, gc=False):
    """A replica's process or container runs. `deployment` is empty when it replaces one that died.

    `slot`: its number among the replicas of its release, from 0 (-1: not told). `duration`: what the start took, 0
    when its engine started it again.
    """

    deployment: str
    replica: str
    release: str
    address: str
    pid: int = 0
    slot: int = -1
    duration: float = 0.0


class ReplicaReady(Event, tag=34, frozen=True, gc=False):
    """A replica passed its checks, `duration` seconds after its start."""

    deployment: str
    replica: str
    duration: float


class ReplicaRetired(Event, tag=35, frozen=True, gc=False):
    """A replica was stopped on purpose. `reason`: "replaced", "rolled back", "scaled down", "stopped".

    `duration`: what the stop took, 0 where it is not known.
    """

    deployment: str
    replica: str
    reason: str
    duration: float = 0.0


class ReplicaExited(Event, tag=36, frozen=True, gc=False):
    """A replica ended by itself. `code`: exit status, -N for signal N, or -1000 when nobody saw it."""

    replica: str
    release: str
    code: int
    oom: bool = False


class DeploymentSucceeded(Event, tag=37, frozen=True, gc=False):
    """All replicas run the release and take traffic."""

    deployment: str
    release: str
    duration: float


class DeploymentFailed(Event, tag=38, frozen=True, gc=False):
    """A deployment ended without success. `phase`: "hook", "pull", "start", "check", "route", "drain"."""

    deployment: str
    release: str
    phase: str
    reason: str
    duration: float


class DeploymentRolledBack(Event, tag=39, frozen=True, gc=False):
    """The failed deployment's replicas are gone; `to` serves as before (empty: nothing ran before)."""

    deployment: str
    release: str
    to: str


class ReleaseQuarantined(Event, tag=40, frozen=True, gc=False):
    """The release is not tried again until a newer one appears or someone says retry."""

    release: str
    reason: str


class QuarantineLifted(Event, tag=41, frozen=True, gc=False):
    """The release may be deployed again."""

    release: str
    by: str


class RegistryFailed(Event, tag=42, frozen=True, gc=False):
    """The registry could not be read; `streak` counts failures in a row."""

    registry: str
    reason: str
    streak: int


class ReplicaAdopted(Event, tag=43, frozen=True, gc=False):
    """A restarted deployer found this replica running and goes on with it. `slot` as in ReplicaStarted."""

    replica: str
    release: str
    address: str
    pid: int = 0
    slot: int = -1


class ReplicaRouted(Event, tag=44, frozen=True, gc=False):
    """The replica is in the route and takes new connections, `duration` seconds after that was decided."""

    deployment: str
    replica: str
    duration: float = 0.0


class ReplicaDraining(Event, tag=45, frozen=True, gc=False):
    """The replica takes no new connections and keeps those that it has."""

    deployment: str
    replica: str


class DeploymentsPaused(Event, tag=46, frozen=True, gc=False):
    """New releases wait until deployments are resumed."""

    by: str


class DeploymentsResumed(Event, tag=47, frozen=True, gc=False):
    """New releases are deployed again."""

    by: str


class RegistryRecovered(Event, tag=48, frozen=True, gc=False):
    """The registry can be read again, after so many failures in a row."""

    registry: str
    failures: int


class ReplicaDrained(Event, tag=49, frozen=True, gc=False):
    """The replica leaves the route and is stopped next; `cut` connections it still had at the end of the drain time.

    `duration`: for how long it drained.
    """

    deployment: str
    replica: str
    cut: int = 0
    duration: float = 0.0


class ScaleSet(Event, tag=50, frozen=True, gc=False):
    """The deployer is to keep so many replicas running; told whenever it starts."""

    replicas: int


class CommandAnswered(Event, tag=51, frozen=True, gc=False):
    """Somebody asked the deployer for something, and has the answer, `duration` seconds later.

    `command`: "deploy", "rollback", "pause", "resume", "retry", "drain", "abort"; `deployment`: the one that it started
    or aborted.
    `trace`, `span`, `parent`: W3C ids of the trace, of the command, and of who asked. Where `caller` is "cli", that is
    a command line whose span nobody else tells: it asked at `sent` (unix seconds) and has the parent `caller_parent`.
    """

    command: str
    by: str
    ok: bool
    message: str
    duration: float
    deployment: str = ""
    trace: str = ""
    span: str = ""
    parent: str = ""
    caller: str = ""
    caller_parent: str = ""
    sent: float = 0.0


# --- health --------------------------------------------------------------------------------------------------


class HealthChecked(Event, tag=60, frozen=True, gc=False):
    """One probe of a replica. `reason` is empty when it passed."""

    replica: str
    ok: bool
    latency: float
    reason: str = ""


class HealthChanged(Event, tag=61, frozen=True, gc=False):
    """The replica's verdict changed, after `rise` passes or `fall` failures in a row."""

    replica: str
    healthy: bool
    reason: str = ""


AnyEvent: TypeAlias = (
    ServiceStarted
    | ServiceHeartbeat
    | ServiceStopped
    | EventsDropped
    | ListenerOpened
    | ListenerClosed
    | ConnectionAccepted
    | ConnectionEstablished
    | ConnectionProgressed
    | ConnectionClosed
    | ConnectionRefused
    | DialFailed
    | BackendJoined
    | BackendLeft
    | BackendEjected
    | BackendDrained
    | ConnectionTraced
    | ReleaseFound
    | DeploymentStarted
    | ImagePulled
    | ReplicaStarted
    | ReplicaReady
    | ReplicaRetired
    | ReplicaExited
    | DeploymentSucceeded
    | DeploymentFailed
    | DeploymentRolledBack
    | ReleaseQuarantined
    | QuarantineLifted
    | RegistryFailed
    | ReplicaAdopted
    | ReplicaRouted
    | ReplicaDraining
    | DeploymentsPaused
    | DeploymentsResumed
    | RegistryRecovered
    | ReplicaDrained
    | ScaleSet
    | CommandAnswered
    | HealthChecked
    | HealthChanged
)

EVENT_TYPES: tuple[type[Event], ...] = get_args(AnyEvent)
