"""The routes that show the state: GET, JSON."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from services.common.jetstream.lease import Lease
from services.common.version import VERSION
from services.metrics_gateway.api.dependencies import Gateway, InjectedGateway
from services.metrics_gateway.api.parameters import AppName, Kinds, wanted
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.instruments.instrument import Role
from services.metrics_gateway.state.state import RECENT_KEPT
from services.metrics_gateway.views import backends as backend_views
from services.metrics_gateway.views import deployments as deployment_views
from services.metrics_gateway.views import events, status
from services.metrics_gateway.views.backends import Backends
from services.metrics_gateway.views.deployments import Deployments
from services.metrics_gateway.views.events import Events
from services.metrics_gateway.views.status import Containers, LogStatus, RoleStatus, Status

READ = {"access": "read"}
PROBLEMS = specs(401, 421)

Limit = Annotated[int, QueryParameter(ge=1, le=RECENT_KEPT, description="The maximum number of results.")]


def status_of(gateway: Gateway) -> Status:
    """Return the status of a gateway."""
    projection = gateway.projection
    log = LogStatus(
        projection.state.position, projection.pending, projection.is_caught_up, projection.age, projection.is_connected
    )
    roles = [_role(role, lease) for role, lease in projection.leases.items()]
    return status.status(projection.state, log, VERSION, gateway.traffic, roles)


def _role(role: Role, lease: Lease) -> RoleStatus:
    host, instance = (lease.holder.host, lease.holder.holder) if lease.holder else ("", "")
    return RoleStatus(role, host, instance, lease.is_held)


@get("/api/status", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_status(gateway: InjectedGateway) -> Status:
    """Return apps with their releases, proxies with their traffic, running services, and the position in the log."""
    return status_of(gateway)


@get("/api/containers", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_containers(gateway: InjectedGateway) -> Containers:
    """Return the replicas that run."""
    return status.containers(gateway.projection.state)


@get("/api/deployments", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_deployments(gateway: InjectedGateway, app: AppName = "", limit: Limit = 50) -> Deployments:
    """Return the last deployments, newest first."""
    return deployment_views.deployments(gateway.projection.state, app, limit)


@get("/api/backends", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_backends(gateway: InjectedGateway, app: AppName = "") -> Backends:
    """Return the backends of every proxy port: those that take connections, and those that drain."""
    return backend_views.backends(gateway.projection.state, app)


@get("/api/events", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_events(gateway: InjectedGateway, app: AppName = "", kind: Kinds = (), limit: Limit = 50) -> Events:
    """Return the last events, newest first. Those of single connections and probes are only in the stream."""
    return events.newest(gateway.projection.state, wanted(app, kind), limit)


HANDLERS = [api_status, api_containers, api_deployments, api_backends, api_events]
