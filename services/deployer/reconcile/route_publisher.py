"""The routes of an application's ports: written for the proxy, with the proxy's answers."""

from __future__ import annotations

from schemas import subjects
from schemas.routing import Backend, BackendState, Route, Serving
from services.common.bus.connection import Bus
from services.deployer.reconcile import kv


class RoutePublisher:
    """Publishes routes. All ports lead to the same replicas. Each change has a higher generation than any before."""

    def __init__(self, bus: Bus, host: str, app: str, ports: list[int]) -> None:
        self.generation = 0
        self.serving: dict[str, Serving] = {}
        self._bus = bus
        self._app = app
        self._ports = {subjects.route_key(host, app, port): port for port in ports}
        self._prefix = f"{subjects.token(host)}.{app}.>"
        self._published: dict[int, list[Backend]] | None = None

    async def load(self) -> dict[str, BackendState]:
        """Return the backends of an earlier deployer's routes. Delete the routes of ports that are no longer ours."""
        routes = await kv.read(self._bus, subjects.ROUTES, self._prefix, Route)
        for key in routes.keys() - self._ports.keys():
            await self._bus.delete(subjects.ROUTES, key)
        self.generation = max([self.generation, *(route.generation for route in routes.values())])
        return {backend.id: backend.state for route in routes.values() for backend in route.backends}

    def forget(self) -> None:
        """Publish again next time: the bus may have lost the routes."""
        self._published = None

    async def clear(self) -> None:
        """Delete the routes. After a BusError, call it again."""
        if self._published != {}:
            for key in self._ports:
                await self._bus.delete(subjects.ROUTES, key)
            self._published = {}

    async def publish(self, backends: dict[int, list[Backend]]) -> bool:
        """Write the backends of each port. Return False if nothing changed. After a BusError, call it again."""
        if backends == self._published:
            return False
        followed = [serving.generation for serving in self._relevant()]
        self.generation = max([self.generation, *followed]) + 1  # the bus may have lost what the proxy still follows
        for key, port in self._ports.items():
            await self._bus.put(subjects.ROUTES, key, Route(self._app, port, self.generation, backends[port]))
        self._published = backends
        return True

    def follows(self, generation: int) -> bool:
        """Return True if the proxy follows this generation, or there is no proxy."""
        return all(serving.generation >= generation for serving in self._relevant())

    def connections(self, replica: str) -> int:
        """Return how many connections a draining replica still has."""
        return sum(serving.draining.get(replica, 0) for serving in self._relevant())

    def _relevant(self) -> list[Serving]:
        return [serving for key, serving in self.serving.items() if key in self._ports]
