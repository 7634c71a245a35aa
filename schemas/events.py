"""Every event that a service publishes.

Rules of the wire: names are past tense; an event is encoded as a MessagePack array that starts with its integer
tag; a field is only ever appended, with a default; a tag is never reused. `time` is unix seconds on the producer's
clock; only the order within one producer counts. Durations and latencies are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import TypeAlias, get_args

import msgspec

from schemas.limits import Count, Name, Number, Port, Seconds, Text

UNSEEN = -1000
"""The exit code of a replica whose exit was not seen."""


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The base of all events: when it happened."""

    time: Seconds


class _ConnectionEvent(Event, frozen=True, gc=False):
    """The base of events about a client connection. `connection` is unique within the instance."""

    connection: Count
    port: Port


class _DeploymentEvent(Event, frozen=True, gc=False):
    """The base of events about a deployment and its release."""

    deployment: Name
    release: Name


class _ReplicaEvent(Event, frozen=True, gc=False):
    """The base of events about a replica; `deployment` is empty outside a deployment."""

    deployment: Name
    replica: Name


# --- every service -------------------------------------------------------------------------------------------


class ServiceStarted(Event, tag=1, frozen=True, gc=False):
    """An instance began. `unit` runs at most once on a host: a new instance of it ends the one before.

    `parent` is the instance that this one belongs to and ends with (a proxy worker and its master).
    """

    unit: Text
    version: Text
    pid: Count
    parent: Name = ""


class ServiceHeartbeat(Event, tag=2, kw_only=True, frozen=True, gc=False):
    """Published every few seconds: resident memory, CPU time used since start, and delay of the event loop.

    `spool_batches` and `spool_bytes`: the batches that wait for the bus, in memory or on disk.
    """

    rss: Count
    cpu: Seconds
    loop_lag: Seconds
    spool_batches: Count = 0
    spool_bytes: Count = 0


class ServiceStopped(Event, tag=3, frozen=True, gc=False):
    """The last event of an instance; whatever it had open is closed. `reason`: "stopped", "killed by signal 9"."""

    reason: Text


class EventsDropped(Event, tag=4, frozen=True, gc=False):
    """Events are lost, counted by kind: the spool for an unreachable bus was full, or is damaged.

    They are events of this instance, or of earlier instances of its service whose spool it took over.
    """

    count: Count
    kinds: dict[Name, Count] = {}


# --- proxy ---------------------------------------------------------------------------------------------------


class ListenerOpened(Event, tag=10, frozen=True, gc=False):
    """The proxy accepts connections on this port."""

    port: Port
    address: Text


class ListenerClosed(Event, tag=11, frozen=True, gc=False):
    """The proxy no longer accepts connections on this port."""

    port: Port


class ConnectionAccepted(_ConnectionEvent, tag=12, frozen=True, gc=False):
    """A client connected, before a backend is picked. `connection` is unique within the instance."""


class ConnectionEstablished(_ConnectionEvent, tag=13, kw_only=True, frozen=True, gc=False):
    """A backend answered. `latency`: of the dial that succeeded; `attempts`: dials made, this one included."""

    backend: Name
    latency: Seconds
    attempts: Count
    held: Seconds = 0.0


class ConnectionProgressed(_ConnectionEvent, tag=14, kw_only=True, frozen=True, gc=False):
    """A connection that stays open: bytes so far from the client (in) and to the client (out)."""

    bytes_in: Count
    bytes_out: Count


class ConnectionClosed(_ConnectionEvent, tag=15, kw_only=True, frozen=True, gc=False):
    """A connection ended that was not refused: total bytes from and to the client, seconds since accept.

    `reason`: "eof", "client_reset", "backend_reset", "client_gone" (left before a backend answered), "idle",
    "drained" (cut at the end of the drain time), "shutdown".
    """

    backend: Name
    bytes_in: Count
    bytes_out: Count
    duration: Seconds
    reason: Text


class ConnectionRefused(_ConnectionEvent, tag=16, kw_only=True, frozen=True, gc=False):
    """A connection ended without a backend. `reason`: "no_backend" (none within the hold time), "dial_failed"."""

    reason: Text
    duration: Seconds


class DialFailed(_ConnectionEvent, tag=17, kw_only=True, frozen=True, gc=False):
    """One attempt to reach a backend failed. `reason`: "refused", "timeout", "reset", "unreachable"."""

    backend: Name
    latency: Seconds
    reason: Text


class BackendJoined(Event, tag=18, frozen=True, gc=False):
    """A backend takes new connections on this port, from now on or again."""

    port: Port
    backend: Name
    address: Text


class BackendLeft(Event, tag=19, frozen=True, gc=False):
    """A backend takes no new connections: it drains, or its route is gone."""

    port: Port
    backend: Name


class BackendEjected(Event, tag=20, frozen=True, gc=False):
    """A backend that failed a dial is skipped until it answers again (BackendJoined)."""

    port: Port
    backend: Name
    reason: Text


class BackendDrained(Event, tag=21, frozen=True, gc=False):
    """A draining backend has no connection left, after `waited` seconds; `cut` were closed at the deadline."""

    port: Port
    backend: Name
    cut: Count
    waited: Seconds


class ConnectionTraced(_ConnectionEvent, tag=22, kw_only=True, frozen=True, gc=False):
    """The times of a sampled connection that ended, in seconds since its accept; other events report its end as well.

    `held`, `latency`, `attempts`: as in ConnectionEstablished, which came after `established`. `first_byte`: when the
    client was sent the first byte, -1 if none was. `bytes_in`, `bytes_out`, `reason`: as in ConnectionClosed. A
    connection that ended without a backend has an empty `backend`, `established` is -1, and `reason` may be that of
    ConnectionRefused.
    """

    backend: Name
    duration: Seconds
    held: Seconds
    latency: Seconds
    attempts: Count
    established: Seconds
    first_byte: Seconds
    bytes_in: Count
    bytes_out: Count
    reason: Text


# --- deployer ------------------------------------------------------------------------------------------------


class ReleaseFound(Event, tag=30, frozen=True, gc=False):
    """The registry offers a release that was not seen before."""

    release: Name
    digest: Name
    registry: Text


class DeploymentStarted(_DeploymentEvent, tag=31, kw_only=True, frozen=True, gc=False):
    """A deployment began. `deployment` is a UUIDv7 and `trace` a W3C trace id; `by`: "registry" or a person.

    `resolved`: seconds that it took before to resolve the release. `parent`: the W3C span id of the
    command that asked for it, if one did; `trace` is that command's trace then. `digest`: of the release. `kind`:
    "release"; or the release stays, and this is a deployment of other "options", a "restart", or a "redeploy" of a name
    that stands for something else now. `changed`: the options that differ from those before, without their values.
    """

    previous: Name
    by: Name
    strategy: Name
    replicas: Count
    trace: Name
    resolved: Seconds = 0.0
    parent: Name = ""
    digest: Name = ""
    kind: Name = "release"
    changed: list[Name] = []


class ImagePulled(_DeploymentEvent, tag=32, frozen=True, gc=False):
    """The release's files are on the host."""

    duration: Seconds


class ReplicaStarted(_ReplicaEvent, tag=33, kw_only=True, frozen=True, gc=False):
    """A replica's process or container runs. `deployment` is empty outside a deployment.

    `slot`: its number among the replicas of its release, from 0 (-1: unknown). `duration`: seconds that the start
    took, 0 when its engine started it again. `replaces`: whether it is in the place of one that died or was unhealthy;
    older programs do not say it.
    """

    release: Name
    address: Text
    pid: Count = 0
    slot: Number = -1
    duration: Seconds = 0.0
    replaces: bool | None = None


class ReplicaReady(_ReplicaEvent, tag=34, frozen=True, gc=False):
    """A replica passed its checks, `duration` seconds after its start."""

    duration: Seconds


class ReplicaRetired(_ReplicaEvent, tag=35, kw_only=True, frozen=True, gc=False):
    """A replica was stopped on purpose. `reason`: "replaced", "rolled back", "scaled down", "stopped".

    `duration`: seconds that the stop took, 0 where it is not known.
    """

    reason: Text
    duration: Seconds = 0.0


class ReplicaExited(Event, tag=36, frozen=True, gc=False):
    """A replica ended by itself. `code`: exit status, -N for signal N, or -1000 when the exit was not seen.

    `output`: its last lines, 20 lines or 4 KiB at most, without control characters, secrets masked; empty if unknown.
    """

    replica: Name
    release: Name
    code: Number
    oom: bool = False
    output: Text = ""


class DeploymentSucceeded(_DeploymentEvent, tag=37, frozen=True, gc=False):
    """All replicas run the release and take traffic."""

    duration: Seconds


class DeploymentFailed(_DeploymentEvent, tag=38, kw_only=True, frozen=True, gc=False):
    """A deployment ended without success. `phase`: "hook", "pull", "start", "check", "route", "drain".

    `output`: the last lines of the replica that failed, as in ReplicaExited; empty if no replica did. `digest`: of the
    release. `kind`: as in DeploymentStarted.
    """

    phase: Name
    reason: Text
    duration: Seconds
    output: Text = ""
    digest: Name = ""
    kind: Name = "release"


class DeploymentRolledBack(_DeploymentEvent, tag=39, frozen=True, gc=False):
    """The failed deployment's replicas are gone; `to` serves as before (empty: nothing ran before)."""

    to: Name


class ReleaseQuarantined(Event, tag=40, frozen=True, gc=False):
    """The release is not deployed again until a newer release appears or an operator retries it."""

    release: Name
    reason: Text


class QuarantineLifted(Event, tag=41, frozen=True, gc=False):
    """The release may be deployed again."""

    release: Name
    by: Name


class RegistryFailed(Event, tag=42, frozen=True, gc=False):
    """The registry could not be read; `streak` counts failures in a row."""

    registry: Text
    reason: Text
    streak: Count


class ReplicaAdopted(Event, tag=43, kw_only=True, frozen=True, gc=False):
    """A restarted deployer found this replica running and manages it. `slot` as in ReplicaStarted."""

    replica: Name
    release: Name
    address: Text
    pid: Count = 0
    slot: Number = -1


class ReplicaRouted(_ReplicaEvent, tag=44, frozen=True, gc=False):
    """The replica is in the route and takes new connections, `duration` seconds after that was decided."""

    duration: Seconds = 0.0


class ReplicaDraining(_ReplicaEvent, tag=45, frozen=True, gc=False):
    """The replica takes no new connections and keeps its open ones."""


class DeploymentsPaused(Event, tag=46, frozen=True, gc=False):
    """New releases wait until deployments are resumed."""

    by: Name


class DeploymentsResumed(Event, tag=47, frozen=True, gc=False):
    """New releases are deployed again."""

    by: Name


class RegistryRecovered(Event, tag=48, frozen=True, gc=False):
    """The registry can be read again, after so many failures in a row."""

    registry: Text
    failures: Count


class ReplicaDrained(_ReplicaEvent, tag=49, kw_only=True, frozen=True, gc=False):
    """The replica leaves the route and is stopped next; `cut`: its connections at the end of the drain time.

    `duration`: seconds that it drained.
    """

    cut: Count = 0
    duration: Seconds = 0.0


class ScaleSet(Event, tag=50, frozen=True, gc=False):
    """The deployer keeps this many replicas running; recorded at each of its starts, and when an operator changes it.

    `by`: the operator, empty at a start.
    """

    replicas: Count
    by: Name = ""


class CommandAnswered(Event, tag=51, kw_only=True, frozen=True, gc=False):
    """The deployer answered a command, `duration` seconds after it received it.

    `command`: "deploy", "rollback", "pause", "resume", "retry", "drain", "abort", "restart", "scale", "stop", "start",
    "remove"; `deployment`: the deployment that it started or aborted.
    `trace`, `span`, `parent`: W3C ids of the trace, of the command, and of its sender. With the `caller` "cli", the
    sender is a command line that reports no span itself: it sent the command at `sent` (unix seconds), and its span has
    the parent `caller_parent`.
    """

    command: Name
    by: Name
    ok: bool
    message: Text
    duration: Seconds
    deployment: Name = ""
    trace: Name = ""
    span: Name = ""
    parent: Name = ""
    caller: Name = ""
    caller_parent: Name = ""
    sent: Seconds = 0.0


class ApplicationRemoved(Event, tag=52, frozen=True, gc=False):
    """The application was removed from its host, until a deployer of it starts again. `by`: the operator."""

    by: Name = ""


class SessionOpened(Event, tag=56, kw_only=True, frozen=True, gc=False):
    """A person runs a command: in a replica (`kind` "exec"), or beside the replicas as a task of its own ("run").

    `session`: unique id. `program`: the first word of the command; the others may hold secrets. `release`: that of the
    replica or task. `terminal`: it has a terminal.
    """

    session: Name
    kind: Name
    by: Name
    release: Name
    replica: Name
    program: Text
    terminal: bool = False


class SessionClosed(Event, tag=57, kw_only=True, frozen=True, gc=False):
    """The command of a session ended, or was ended with it. `code`: exit status, -1000 if unknown; `reason`: why else.

    `duration`: seconds since SessionOpened.
    """

    session: Name
    code: Number
    duration: Seconds
    reason: Text = ""


class ReplicasSampled(Event, tag=55, kw_only=True, frozen=True, gc=False):
    """The resources that replicas use, by replica, every 15 seconds. A replica without a value has none.

    `cpu`: seconds of CPU time, `received` and `sent`: bytes on the network, `restarts`: starts by its engine; each
    since its process or container was last started. `memory`: bytes, without what the kernel can drop at once;
    `memory_limit`: the most bytes that it may use.
    """

    cpu: dict[Name, Seconds] = {}
    memory: dict[Name, Count] = {}
    memory_limit: dict[Name, Count] = {}
    received: dict[Name, Count] = {}
    sent: dict[Name, Count] = {}
    restarts: dict[Name, Count] = {}


class ReleasePinned(Event, tag=53, frozen=True, gc=False):
    """The release stays although the registry has newer ones, until deployments are resumed. Empty: the pin ended."""

    release: Name
    by: Name


class ReleaseWaiting(Event, tag=54, frozen=True, gc=False):
    """A release is not started yet, because another host must deploy it first (--after).

    `reason`: which host, and why it has not; empty when nothing waits any more, though nothing was started.
    """

    release: Name
    reason: Text


# --- health --------------------------------------------------------------------------------------------------


class HealthChecked(Event, tag=60, frozen=True, gc=False):
    """One probe of a replica. `reason` is empty when it passed."""

    replica: Name
    ok: bool
    latency: Seconds
    reason: Text = ""


class HealthChanged(Event, tag=61, frozen=True, gc=False):
    """The replica's verdict changed, after `rise` passes or `fall` failures in a row."""

    replica: Name
    healthy: bool
    reason: Text = ""


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
    | ApplicationRemoved
    | SessionOpened
    | SessionClosed
    | ReplicasSampled
    | ReleasePinned
    | ReleaseWaiting
)

EVENT_TYPES: tuple[type[Event], ...] = get_args(AnyEvent)
