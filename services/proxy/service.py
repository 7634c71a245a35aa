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
STOP_MARGIN = 10.0


def run(settings: ProxySettings) -> None:
    """Forward connections until SIGTERM or SIGINT, then drain. Raises LongshoreError when it cannot.

    Listening sockets that LONGSHORE_LISTEN_FDS names are used instead of new ones, one worker for each; else those
    that systemd hands over (LISTEN_FDS).
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
    """Those that we were given, and new ones."""
    given = activated(os.environ, os.getpid())
    try:
        return complete(hand(given, settings.listen, settings.workers), settings.listen, settings.workers)
    finally:
        for port in given.keys() - {parse(item).port for item in settings.listen}:
            log.get("proxy").warning("no --listen names the port of this socket: its clients get no answer", port=port)
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
    publishing.cancel()  # from now on it is for the next master to say what is served
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
