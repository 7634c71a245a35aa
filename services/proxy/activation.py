"""Socket activation (sd_listen_fds(3)): listening sockets that systemd opened, and holds over our restarts."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from services.common.errors import SettingsError
from services.proxy.listeners import Binding, Listener, parse

FIRST = 3


def activated(environ: Mapping[str, str], pid: int, listen: Iterable[str], workers: int) -> list[Listener]:
    """A listener, shared by all workers, for each socket handed to process `pid`; none if none was.

    Raises SettingsError when a socket is of no port that --listen names, or when two are of the same one.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    bindings = {binding.port: binding for binding in map(parse, listen)}
    listeners: list[Listener] = []
    try:
        for fd in range(FIRST, FIRST + _count(environ.get("LISTEN_FDS", "0"))):
            listeners.append(_listener(fd, bindings, workers))
            _check_single(listeners)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _check_single(listeners: list[Listener]) -> None:
    """Of two sockets of one port, workers would accept on one, and clients wait at the other for nothing."""
    *before, last = (listener.binding for listener in listeners)
    if last in before:
        raise SettingsError(f"LISTEN_FDS: two sockets of port {last.port}; give it one ListenStream={last.port}")


def _count(value: str) -> int:
    if not value.isdecimal():
        raise SettingsError(f"LISTEN_FDS {value!r} is no number of sockets: unset it")
    return int(value)


def _listener(fd: int, bindings: dict[int, Binding], workers: int) -> Listener:
    with _opened(fd) as given:
        port = given.getsockname()[1]
        if port not in bindings:
            raise SettingsError(f"LISTEN_FDS: nobody asks for port {port}; add it with --port, or drop its socket unit")
        given.setblocking(False)
        given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Listener(bindings[port], [given.dup() for _ in range(workers)])


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
