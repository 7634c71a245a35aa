"""Following the routes of this host."""

from __future__ import annotations

import asyncio

import msgspec

from schemas import codec, subjects
from schemas.limits import is_address
from schemas.routing import Route
from services.common.jetstream.watch import Change, Synced, watch_keys
from services.common.process.lifecycle import Context
from services.proxy.crash.route_cache import RouteCache
from services.proxy.master.master import Master
from services.proxy.master.serving import Publisher

TOUCH_INTERVAL = 5.0
LONGEST_PORT = 5


class Routes:
    """Hands every route that the bus holds to the master; what is followed stays when the bus is away."""

    def __init__(self, context: Context, master: Master, publisher: Publisher, cache: RouteCache) -> None:
        self.known = asyncio.Event()
        self._context = context
        self._master = master
        self._publisher = publisher
        self._cache = cache
        self._routes: dict[tuple[str, int], Route] = {}

    def load_cached(self) -> None:
        """Hand over the routes of the last master; whatever the bus says later replaces them."""
        for route in filter(_is_usable, self._cache.load()):
            self._context.log.warning("the bus is away: serving as before", app=route.app, port=route.port)
            self._follow(route)
            self._master.forget(route.app, route.port)

    async def keep_cache_fresh(self) -> None:
        """Have the next master believe the routes that are kept, until cancelled."""
        while True:
            await asyncio.sleep(TOUCH_INTERVAL)
            self._cache.touch()

    async def run(self) -> None:
        """Follow until cancelled; `known` is set once the routes that are there now have been handed over."""
        keys = f"{subjects.token(self._context.host)}.>"
        async for change in watch_keys(self._context.bus, subjects.ROUTES, keys):
            if isinstance(change, Synced):
                self.known.set()
                self._publisher.publish_again()
            else:
                self._apply(change)

    def _apply(self, change: Change) -> None:
        if change.value is None:
            self._forget(change.key)
            return
        try:
            route = _checked(codec.value(change.value, Route))
        except (msgspec.MsgspecError, ValueError) as error:
            self._context.log.warning("not a route, ignored", key=change.key, reason=str(error))
            return
        if change.key != subjects.route_key(self._context.host, route.app, route.port):
            self._context.log.warning("not the route of this key, ignored", key=change.key, app=route.app)
            return
        self._follow(route)
        self._cache.save(self._routes.values())

    def _follow(self, route: Route) -> None:
        self._routes[route.app, route.port] = route
        self._master.follow(route)

    def _forget(self, key: str) -> None:
        app, _, port = key.partition(".")[2].rpartition(".")
        if port.isdecimal() and len(port) <= LONGEST_PORT:  # else it is no key of a route
            self._master.forget(app, int(port))


def _checked(route: Route) -> Route:
    """The route. Raises ValueError for a backend without an address: looking names up would make connections wait."""
    if not _is_usable(route):
        raise ValueError("a backend's host is no IP address")
    return route


def _is_usable(route: Route) -> bool:
    return all(is_address(backend.host) for backend in route.backends)
