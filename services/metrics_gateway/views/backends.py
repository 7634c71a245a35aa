"""The answer of /api/backends: the backends behind the proxy ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from services.metrics_gateway.instruments import instrument
from services.metrics_gateway.state.application import Replica
from services.metrics_gateway.state.state import PortKey, State


class BackendView(msgspec.Struct, frozen=True):
    """A backend of a proxy port. `active` takes new connections; `draining` keeps those that it has.

    `healthy` is None before a verdict. Release and verdict are unknown for a backend that no deployer runs.
    """

    app: str
    host: str
    port: int
    backend: str
    address: str
    state: Literal["active", "draining"]
    release: str
    healthy: bool | None


class Backends(msgspec.Struct, frozen=True):
    """The answer of /api/backends."""

    backends: list[BackendView]


def backends(state: State, app: str) -> Backends:
    """Return the backends of an app, or of all, by host, app, port and name."""
    taking = instrument.backends(state)
    return Backends(
        [one for key, addresses in sorted(taking.items()) if app in ("", key[1]) for one in _of(state, key, addresses)]
    )


def _of(state: State, key: PortKey, addresses: dict[str, str]) -> Iterator[BackendView]:
    host, name, port = key
    known = state.apps.get((host, name))
    replicas = {replica.id: replica for replica in known.running} if known else {}
    draining = {one.id: one.address for one in replicas.values() if one.phase == "draining" and one.id not in addresses}
    for backend, address in sorted((addresses | draining).items()):
        replica = replicas.get(backend, Replica(backend))
        yield BackendView(
            name,
            host,
            port,
            backend,
            address,
            "active" if backend in addresses else "draining",
            replica.release,
            replica.healthy,
        )
