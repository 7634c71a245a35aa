"""Socket activation (sd_listen_fds(3)): listening sockets that systemd opened, and holds over our restarts."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from services.common.errors import SettingsError
from services.proxy.sockets.listeners import Listener, parse

FIRST = 3


def activated(environ: Mapping[str, str], pid: int) -> dict[int, socket.socket]:
    """The listening sockets handed to process `pid`, by port; none if none was.

    Raises SettingsError when a descriptor is no listening socket, or two are of the same port.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdecimal():
        raise SettingsError(f"LISTEN_FDS {count!r} is no number of sockets: unset it")
    found: dict[int, socket.socket] = {}
    try:
        for fd in range(FIRST, FIRST + int(count)):
            _add(found, _opened(fd))
    except BaseException:
        for given in found.values():
            given.close()
        raise
    return found


def _add(found: dict[int, socket.socket], given: socket.socket) -> None:
    port = given.getsockname()[1]
    if port in found:  # workers would accept on one of them, and clients wait at the other for nothing
        given.close()
        raise SettingsError(f"LISTEN_FDS: two sockets are of port {port}; use one ListenStream=PORT for it")
    given.set_inheritable(False)
    given.setblocking(False)
    given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found[port] = given


def hand(given: Mapping[int, socket.socket], listen: Iterable[str], workers: int) -> list[Listener]:
    """A listener, shared by all workers, for each of `listen` whose port we were given. They are copies."""
    return [
        Listener(binding, [given[binding.port].dup() for _ in range(workers)])
        for binding in map(parse, listen)
        if binding.port in given
    ]


def _opened(fd: int) -> socket.socket:
    try:
        given = socket.socket(fileno=fd)
        if given.family in (socket.AF_INET, socket.AF_INET6) and given.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            return given
        given.close()
    except OSError:
        pass  # no socket at all
    raise SettingsError(f"LISTEN_FDS: descriptor {fd} is no listening TCP socket; use ListenStream=PORT")
