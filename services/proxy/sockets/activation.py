"""Socket activation (sd_listen_fds(3)): listening sockets that systemd opens, and keeps open over restarts."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping

from schemas.routing import authority
from services.common.errors import SettingsError
from services.proxy.sockets.listeners import Binding, Listener, parse

FIRST = 3


def activated(environ: Mapping[str, str], pid: int) -> dict[int, socket.socket]:
    """Return the listening sockets that systemd passed to process `pid`, by port; none without socket activation.

    Raises SettingsError when a descriptor is no listening socket, or when two have the same port.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = environ.get("LISTEN_FDS", "0")
    if not count.isdecimal():
        raise SettingsError(f"LISTEN_FDS {count!r}: not a number of sockets; unset it")
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
    if port in found:  # workers would accept on one of them, and clients of the other would wait in vain
        given.close()
        raise SettingsError(f"LISTEN_FDS: two sockets have port {port}; use one ListenStream=PORT for it")
    given.set_inheritable(False)
    given.setblocking(False)
    given.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found[port] = given


def hand(given: Mapping[int, socket.socket], listen: Iterable[str], workers: int) -> list[Listener]:
    """Return a listener, shared by all workers, for each of `listen` whose socket was passed; sockets are copies.

    Raises SettingsError for a binding whose address is another one than that of its socket.
    """
    bindings = [binding for binding in map(parse, listen) if binding.port in given]
    for binding in bindings:
        _check_address(binding, given[binding.port])
    return [Listener(binding, [given[binding.port].dup() for _ in range(workers)]) for binding in bindings]


def _check_address(binding: Binding, given: socket.socket) -> None:
    address = given.getsockname()[0]
    if binding.address and ipaddress.ip_address(binding.address) != ipaddress.ip_address(address.partition("%")[0]):
        wanted = authority(binding.address, binding.port)
        raise SettingsError(
            f"--bind {binding.address}: systemd opened port {binding.port} on {address}; "
            f"set ListenStream={wanted} in the socket unit, or omit --bind"
        )


def _opened(fd: int) -> socket.socket:
    try:
        given = socket.socket(fileno=fd)
        if given.family in (socket.AF_INET, socket.AF_INET6) and given.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            return given
        given.close()
    except OSError:
        pass  # not a socket
    raise SettingsError(f"LISTEN_FDS: descriptor {fd} is not a listening TCP socket; use ListenStream=PORT")
