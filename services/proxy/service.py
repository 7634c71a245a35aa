"""The proxy service: a master and its workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from services.common import log
from services.common.errors import SettingsError
from services.common.process import lifecycle
from services.common.process.lifecycle import Context
from services.proxy.crash.route_cache import RouteCache
from services.proxy.master.master import KILL_AFTER, Master
from services.proxy.master.routes import Routes
from services.proxy.master.serving import Publisher
from services.proxy.messages import Limits
from services.proxy.settings import ProxySettings
from services.proxy.sockets.activation import activated, hand
from services.proxy.sockets.listeners import VARIABLE, Listener, complete, inherited, parse

ROUTES_TIMEOUT = 5.0
"""Seconds to wait for the routes on the bus before those of the last master are served."""

STOP_MARGIN = 10.0
"""Seconds, beyond the drain time and the kill of a worker, that the master has to send its last events."""


def run(settings: ProxySettings) -> None:
    """Forward connections until SIGTERM or SIGINT, then drain. Raises LongshoreError when it cannot.

    The proxy uses the listening sockets that LONGSHORE_LISTEN_FDS names, one worker for each; without them the sockets
    that systemd passes (LISTEN_FDS); it opens only those that are missing.
    """
    listeners = inherited(os.environ) or _listeners(settings)
    os.environ.pop(VARIABLE, None)
    if not listeners:
        raise SettingsError("--listen is missing: give the ports to listen on, like --listen web=8080")
    cache = RouteCache(_path(settings, listeners))
    unit = "proxy:" + ",".join(str(listener.binding.port) for listener in listeners)
    try:
        lifecycle.run(
            "proxy",
            unit,
            settings,
            lambda context: serve(context, settings, listeners, cache),
            settings.drain_time + KILL_AFTER + STOP_MARGIN,
            needs_bus=not cache.load(),
        )
    finally:
        for listener in listeners:
            listener.close()


def _listeners(settings: ProxySettings) -> list[Listener]:
    """Return listeners on the sockets from systemd, and on new ones for the other ports."""
    given = activated(os.environ, os.getpid())
    try:
        return complete(hand(given, settings.listen, settings.workers), settings.listen, settings.workers)
    finally:
        for port in given.keys() - {parse(item).port for item in settings.listen}:
            log.get("proxy").warning(
                "no --listen names the port of this socket: its clients get no answer; add one",
                port=port,
            )
        for socket in given.values():
            socket.close()


def _path(settings: ProxySettings, listeners: list[Listener]) -> Path:
    ports = "-".join(str(listener.binding.port) for listener in listeners)
    return Path(settings.state_dir) / "proxy" / f"{ports}.routes"


async def serve(context: Context, settings: ProxySettings, listeners: list[Listener], cache: RouteCache) -> None:
    """Run the workers from when the routes are known until the context stops and all connections have ended."""
    publisher = Publisher(context.bus, context.host)
    master = Master(context, listeners, _limits(settings), publisher)
    routes = Routes(context, master, publisher, cache)
    publishing = context.spawn(publisher.run(), "serving")
    context.spawn(routes.run(), "routes")
    context.spawn(routes.keep_cache_fresh(), "route cache")
    if context.bus.is_connected:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROUTES_TIMEOUT):
                await routes.known.wait()
    if not routes.known.is_set():
        routes.load_cached()
    master.start()
    await context.stopping.wait()
    publishing.cancel()  # from now on the next master reports what is served
    await master.stop()


def _limits(settings: ProxySettings) -> Limits:
    return Limits(
        settings.hold,
        settings.connect_timeout,
        settings.idle_timeout,
        settings.drain_time,
        settings.max_connections,
        settings.balance,
        settings.trace_connections,
    )
