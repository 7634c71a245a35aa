"""The values of the key-value buckets: the present state. One service writes a bucket, others watch it."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.limits import Count, Identity, Interval, Name, Port, Seconds, Text

BackendState = Literal["active", "draining"]


def authority(host: str, port: int) -> str:
    """Return `host:port`, with the brackets that an IPv6 address needs in it (RFC 3986)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Backend(msgspec.Struct, frozen=True):
    """The address of a replica for one proxy port. `id` is the replica's."""

    id: Identity
    host: Name
    port: Port
    state: BackendState = "active"


class Route(msgspec.Struct, frozen=True):
    """The backends of one application's port. A higher generation replaces a lower one."""

    app: Name
    port: Port
    generation: Count
    backends: list[Backend] = []


class Serving(msgspec.Struct, frozen=True):
    """The proxy's answer to a Route: all its workers follow `generation`.

    `draining` counts the open connections of each draining backend; a backend that is not in it has none left.
    """

    app: Name
    port: Port
    generation: Count
    draining: dict[Name, Count] = {}


class Check(msgspec.Struct, frozen=True):
    """The probe of a replica. Without a path, the port must accept a connection. Times in seconds."""

    path: Text = ""
    interval: Interval = 2.0
    timeout: Interval = 2.0
    rise: Count = 1
    fall: Count = 2


class Replica(msgspec.Struct, frozen=True):
    """A running replica, to be probed at this address. `pid`: its process, a new one after a restart (0: unknown)."""

    app: Name
    id: Identity
    release: Name
    host: Name
    port: Port
    check: Check = Check()
    pid: Count = 0


class Health(msgspec.Struct, frozen=True):
    """The verdict on a replica since `since` (unix seconds), with the reason of the last failure.

    `starting`: it has never been healthy so far; `reason` says why not, and it is no verdict yet. `pid`: the probed
    process (0: unknown).
    """

    app: Name
    replica: Name
    healthy: bool
    since: Seconds
    reason: Text = ""
    starting: bool = False
    pid: Count = 0


class Artifact(msgspec.Struct, frozen=True):
    """The result of resolving a release's name: its digest, and the location at which its runtime finds it."""

    digest: Name = ""
    location: Text = ""


class Ongoing(msgspec.Struct, frozen=True):
    """A deployment that has begun and not ended; a restarted deployer resumes it.

    `pinned` is the value of Decisions.pinned after success. `failed`: it is being undone. `started` is in unix
    seconds. `artifact`: what the release stands for. `kind`: as in DeploymentStarted. `options`: the fingerprint of the
    options that its replicas are started with.
    """

    deployment: Name
    release: Name
    by: Name
    strategy: Name
    trace: Name
    started: Seconds
    pinned: Name = ""
    failed: bool = False
    artifact: Artifact = Artifact()
    kind: Name = "release"
    options: Name = ""


class Decisions(msgspec.Struct, frozen=True):
    """The decisions of the deployer of an app on a host; they survive every restart.

    `current` serves, a rollback returns to `previous`, `pinned` is the release that an operator chose over the
    registry's newest (empty: follow the registry), `quarantined` maps a release to its reason. `found` is the newest
    release that was announced. `artifacts` holds the resolved releases named here. `telling`: the encoded events of the
    last decision, until they are on the log; the next deployer publishes them if this one could not. `removed`: the
    application was removed from the host, and no deployer of it has started since. `last_lines`: the last line of
    output of the replica with which a quarantined release failed, where one did. `after`: the hosts that deploy a
    release before this one does; `waiting`: why the newest release waits for one of them (empty: none waits).
    `deployment`: the one that made `current` what runs; its replicas stay. `options`: the fingerprint of the options
    that they were started with; `failed_options` maps one that failed to its reason. `replicas`: the number that an
    operator chose while the option was `replicas_option`. `stopped`: no replica runs until an operator starts the
    application again. `removed_by`: the operator that removed the application; it stays removed when its deployer
    starts.
    """

    current: Name = ""
    previous: Name = ""
    pinned: Name = ""
    quarantined: dict[Name, Text] = {}
    paused: bool = False
    ongoing: Ongoing | None = None
    found: Name = ""
    artifacts: dict[Name, Artifact] = {}
    pending_events: bytes = msgspec.field(default=b"", name="telling")
    removed: bool = False
    last_lines: dict[Name, Text] = {}
    after: list[Name] = []
    waiting: Text = ""
    deployment: Name = ""
    options: Name = ""
    failed_options: dict[Name, Text] = {}
    replicas: Count | None = None
    replicas_option: Count = 0
    stopped: bool = False
    removed_by: Name = ""


class Lease(msgspec.Struct, frozen=True):
    """The holder of a lease: an instance, on a host. The holder writes it again and again.

    `done`: the sequence of the last message of the log that the holder has processed, as far as it can say.
    `about`: the holder in words.
    """

    holder: Name
    host: Name
    processed: Count = msgspec.field(default=0, name="done")
    description: Text = msgspec.field(default="", name="about")
