"""The present state of applications, from the buckets."""

from __future__ import annotations

import msgspec

from schemas import subjects
from schemas.routing import Decisions, Health, Replica, Route, authority
from services.client.client import Client


class ReplicaView(msgspec.Struct):
    """One replica. `routed`: "active", "draining" or "no"; `health`: "healthy", "unhealthy: why" or "unknown"."""

    id: str
    release: str
    address: str
    health: str
    routed: str


class AppView(msgspec.Struct):
    """One application on one host.

    `last_lines`: the last line of output of each quarantined release that has one. `scaled`: the number of replicas
    that an operator chose, None if the option counts. `failed_options`: why a change of options failed, empty if the
    last one did not.
    """

    app: str
    release: str
    previous: str
    pinned: str
    paused: bool
    ports: list[int]
    quarantined: dict[str, str]
    replicas: list[ReplicaView]
    last_lines: dict[str, str] = {}
    waiting: str = ""
    stopped: bool = False
    scaled: int | None = None
    failed_options: str = ""


async def overview(client: Client) -> list[AppView]:
    """Return the applications of the target's host."""
    decisions = await client.values(subjects.DECISIONS, Decisions)
    routes = await client.values(subjects.ROUTES, Route)
    replicas = await client.values(subjects.REPLICAS, Replica)
    health = await client.values(subjects.HEALTH, Health)
    return [
        app_view(
            key.split(".")[1],
            decided,
            list(routes.values()),
            list(replicas.values()),
            {verdict.replica: verdict for verdict in health.values()},
        )
        for key, decided in sorted(decisions.items())
        if not decided.removed
    ]


def app_view(
    app: str, decided: Decisions, routes: list[Route], replicas: list[Replica], health: dict[str, Health]
) -> AppView:
    """Return one application's part of the buckets."""
    own = [route for route in routes if route.app == app]
    states = {backend.id: backend.state for route in own for backend in route.backends}
    return AppView(
        app,
        decided.current,
        decided.previous,
        decided.pinned,
        decided.paused,
        sorted(route.port for route in own),
        decided.quarantined,
        [
            ReplicaView(
                replica.id,
                replica.release,
                authority(replica.host, replica.port),
                _verdict(health.get(replica.id)),
                states.get(replica.id, "no"),
            )
            for replica in sorted(replicas, key=lambda replica: replica.id)
            if replica.app == app
        ],
        decided.last_lines,
        decided.waiting,
        decided.stopped,
        decided.replicas,
        next(reversed(decided.failed_options.values()), ""),
    )


def _verdict(health: Health | None) -> str:
    if health is None:
        return "unknown"
    if health.starting:
        return f"starting: {health.reason}" if health.reason else "starting"
    return "healthy" if health.healthy else f"unhealthy: {health.reason}"
