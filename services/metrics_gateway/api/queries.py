"""The addresses that tell what is: GET, JSON."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from services.common.jetstream.lease import Lease
from services.common.version import VERSION
from services.metrics_gateway.api.dependencies import Core, Given
from services.metrics_gateway.api.parameters import AppName, Kinds, wanted
from services.metrics_gateway.api.problem import specs
from services.metrics_gateway.instruments.instrument import Duty
from services.metrics_gateway.state.state import RECENT_KEPT
from services.metrics_gateway.views import backends as backend_views
from services.metrics_gateway.views import deployments as deployment_views
from services.metrics_gateway.views import events, status
from services.metrics_gateway.views.backends import Backends
from services.metrics_gateway.views.deployments import Deployments
from services.metrics_gateway.views.events import Events
from services.metrics_gateway.views.status import Containers, DutyStatus, LogStatus, Status

READ = {"access": "read"}
PROBLEMS = specs(401, 421)

Limit = Annotated[int, QueryParameter(ge=1, le=RECENT_KEPT, description="At most so many.")]


def status_of(core: Core) -> Status:
    """Everything at a glance."""
    live = core.live
    log = LogStatus(live.state.position, live.pending, live.is_caught_up, live.age, live.is_connected)
    duties = [_duty(duty, lease) for duty, lease in live.leases.items()]
    return status.status(live.state, log, VERSION, core.traffic, duties)


def _duty(duty: Duty, lease: Lease) -> DutyStatus:
    host, instance = (lease.holder.host, lease.holder.holder) if lease.holder else ("", "")
    return DutyStatus(duty, host, instance, lease.is_held)


@get("/api/status", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_status(core: Given) -> Status:
    """Apps with their releases, proxies with what goes on there, running services, and the position in the log."""
    return status_of(core)


@get("/api/containers", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_containers(core: Given) -> Containers:
    """The replicas that run."""
    return status.containers(core.live.state)


@get("/api/deployments", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_deployments(core: Given, app: AppName = "", limit: Limit = 50) -> Deployments:
    """The last deployments, newest first."""
    return deployment_views.deployments(core.live.state, app, limit)


@get("/api/backends", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_backends(core: Given, app: AppName = "") -> Backends:
    """The backends of every proxy port: those that take connections, and those that drain."""
    return backend_views.backends(core.live.state, app)


@get("/api/events", opt=READ, responses=PROBLEMS, sync_to_thread=False)
def api_events(core: Given, app: AppName = "", kind: Kinds = (), limit: Limit = 50) -> Events:
    """The last events, newest first; those of single connections and probes are only in the stream."""
    return events.newest(core.live.state, wanted(app, kind), limit)


HANDLERS = [api_status, api_containers, api_deployments, api_backends, api_events]
