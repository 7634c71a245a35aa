"""The answers of /api/status and /api/containers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.metrics_gateway.instruments.instrument import Role, backends, open_connections
from services.metrics_gateway.state.application import App, Phase, Replica
from services.metrics_gateway.state.instance import Instance
from services.metrics_gateway.state.port import Port
from services.metrics_gateway.state.state import PortKey, State
from services.metrics_gateway.views.deployments import DeploymentView, view
from services.metrics_gateway.views.lasting import PinStatus, RegistryError
from services.metrics_gateway.views.resources import Resources, resources
from services.metrics_gateway.views.times import iso
from services.metrics_gateway.views.traffic import PortTraffic, Traffic


class AppStatus(msgspec.Struct, frozen=True):
    """An app on a host. `desired_replicas` is the number that its deployer keeps running, None if unknown.

    `pinned` and `registry_error` are None when there is none. Times as in RFC 3339; `quarantined_since` by release.
    """

    name: str
    host: str
    release: str
    replicas: int
    desired_replicas: int | None
    paused: bool
    quarantined: dict[str, str]
    last_deployment: DeploymentView | None
    pinned: PinStatus | None
    paused_since: str | None
    quarantined_since: dict[str, str | None]
    registry: str
    registry_error: RegistryError | None


class ProxyStatus(msgspec.Struct, frozen=True):
    """A proxy port. `backends` maps those that take new connections to their addresses.

    `connections`, `errors` and `bytes` are totals; `traffic` holds the present rates. `listening` is None where the log
    has lost whether the port is open.
    """

    app: str
    host: str
    port: int
    listening: bool | None
    backends: dict[str, str]
    open_connections: int
    connections: int
    errors: int
    bytes: int
    traffic: PortTraffic


class ServiceStatus(msgspec.Struct, frozen=True):
    """A running process of Longshore, with its last heartbeat: resident bytes, CPU seconds used, loop delay."""

    service: str
    host: str
    instance: str
    unit: str
    version: str
    pid: int
    parent: str
    started_at: str | None
    heartbeat_at: str | None
    rss: int | None
    cpu: float | None
    loop_lag: float | None


class LogStatus(msgspec.Struct, frozen=True):
    """The position in the log, the number of waiting messages, and the age of the newest folded one in seconds.

    Before `caught_up`, the answer is about a past moment.
    """

    position: int
    pending: int
    caught_up: bool
    age: float
    bus_connected: bool


class RoleStatus(msgspec.Struct, frozen=True):
    """A role that one gateway on the bus has: save snapshots, push metrics, push traces.

    `host` and `instance` are of its last known holder, empty if there was none; `here`: this gateway has it.
    """

    role: Role = msgspec.field(name="duty")
    host: str
    instance: str
    here: bool


class Status(msgspec.Struct, frozen=True):
    """The answer of /api/status."""

    version: str
    log: LogStatus
    apps: list[AppStatus]
    proxies: list[ProxyStatus]
    services: list[ServiceStatus]
    roles: list[RoleStatus] = msgspec.field(name="duties")


class Container(msgspec.Struct, frozen=True):
    """A running replica. `deployed_at` is when it began to take connections; `healthy` is None before a verdict.

    `resources` is None before the first sample.
    """

    id: str
    name: str
    app: str
    host: str
    release: str
    address: str
    pid: int
    status: Phase
    healthy: bool | None
    started_at: str | None
    deployed_at: str | None
    resources: Resources | None = None


class Containers(msgspec.Struct, frozen=True):
    """The answer of /api/containers."""

    containers: list[Container]


def status(
    state: State, log: LogStatus, version: str, traffic: Traffic | None = None, roles: Sequence[RoleStatus] = ()
) -> Status:
    """Return the whole status, in a stable order."""
    return Status(
        version,
        log,
        [_app(*key, app) for key, app in sorted(state.apps.items(), key=lambda item: item[0]) if not app.removed],
        _proxies(state, traffic or Traffic()),
        sorted(
            (_service(instance) for instance in state.running()), key=lambda one: (one.host, one.unit, one.instance)
        ),
        list(roles),
    )


def containers(state: State) -> Containers:
    """Return the replicas that run, by host, app and id."""
    found = [_container(host, name, one) for (host, name), app in state.apps.items() for one in app.running]
    return Containers(sorted(found, key=lambda one: (one.host, one.app, one.id)))


def _app(host: str, name: str, app: App) -> AppStatus:
    last = app.deployment
    return AppStatus(
        name,
        host,
        app.release or _newest_release(app.running),
        len(app.running),
        app.desired,
        app.paused,
        app.quarantined,
        view(last, name, host) if last else None,
        PinStatus(app.pinned.release, iso(app.pinned.since), app.pinned.by) if app.pinned else None,
        iso(app.paused_since),
        {release: iso(since) for release, since in app.quarantined_since.items()},
        app.registry,
        _registry_error(app),
    )


def _registry_error(app: App) -> RegistryError | None:
    error = app.registry_error
    return RegistryError(iso(error.since), app.streak, error.reason) if error and app.is_known else None


def _newest_release(replicas: list[Replica]) -> str:
    """Return the release of the newest replica, for an app whose replicas were adopted."""
    newest = max(replicas, key=lambda replica: (replica.started or 0, replica.id), default=None)
    return newest.release if newest else ""


def _proxies(state: State, traffic: Traffic) -> list[ProxyStatus]:
    listening = {
        (instance.host, app, port)
        for instance in state.running()
        for (app, port), listener in instance.listeners.items()
        if listener.address
    }
    taking, connections = backends(state), open_connections(state)
    return [
        _proxy(state, key, _is_open(state, key, listening), taking[key], count, traffic)
        for key, count in sorted(connections.items())
        if count or not (_is_removed(state, key) or (key not in listening and state.ports[key].is_closed))
    ]


def _is_open(state: State, key: PortKey, listening: set[PortKey]) -> bool | None:
    """Return whether the port is open; None where the log has neither its opening nor its closing."""
    if key in listening:
        return True
    totals = state.ports.get(key)
    return False if totals and totals.owner else None


def _is_removed(state: State, key: PortKey) -> bool:
    """Return whether the app was removed. Its port may still be open, because a configuration has it."""
    app = state.apps.get(key[:2])
    return app is not None and app.removed


def _proxy(
    state: State, key: PortKey, is_listening: bool | None, taking: dict[str, str], count: int, traffic: Traffic
) -> ProxyStatus:
    host, app, port = key
    totals = state.ports.get(key) or Port()
    return ProxyStatus(
        app=app,
        host=host,
        port=port,
        listening=is_listening,
        backends=taking,
        open_connections=count,
        connections=totals.connections,
        errors=totals.errors,
        bytes=totals.bytes,
        traffic=traffic.of(key, totals.latency.bounds),
    )


def _service(instance: Instance) -> ServiceStatus:
    beat = instance.heartbeat
    return ServiceStatus(
        service=instance.service,
        host=instance.host,
        instance=instance.id,
        unit=instance.unit,
        version=instance.version,
        pid=instance.pid,
        parent=instance.parent,
        started_at=iso(instance.started),
        heartbeat_at=iso(beat.time) if beat else None,
        rss=beat.rss if beat else None,
        cpu=beat.cpu if beat else None,
        loop_lag=beat.loop_lag if beat else None,
    )


def _container(host: str, app: str, replica: Replica) -> Container:
    return Container(
        id=replica.id,
        name=replica.id,
        app=app,
        host=host,
        release=replica.release,
        address=replica.address,
        pid=replica.pid,
        status=replica.phase,
        healthy=replica.healthy,
        started_at=iso(replica.started),
        deployed_at=iso(replica.deployed),
        resources=resources(replica.usage),
    )
