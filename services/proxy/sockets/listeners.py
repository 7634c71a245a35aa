"""Listening sockets: one for each worker and port, all on the same address (SO_REUSEPORT).

A supervisor may keep them open for a proxy that dies and is restarted: `environment` names the descriptors that the
next proxy inherits, and the kernel queues clients in the meantime.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Collection, Iterable, Mapping

import msgspec

from schemas.routing import authority
from services.common.config.settings import check_name, check_port
from services.common.errors import PortTakenError, SettingsError
from services.common.process.ports import check_free

VARIABLE = "LONGSHORE_LISTEN_FDS"
_ITEM = re.compile(r"(?P<app>[^=]*)=(?:(?P<address>\[[^\]]+\]|[^:=\[\]]+):)?(?P<port>\d{1,9})")
_BACKLOG = 4096  # clients that wait while workers are replaced; the kernel caps it at net.core.somaxconn


class Binding(msgspec.Struct, frozen=True):
    """The address and port that clients of an app connect to. Without an address: all, IPv6 and IPv4."""

    app: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.app}={authority(self.address, self.port) if self.address else self.port}"


class Listener(msgspec.Struct, frozen=True):
    """The open sockets of a binding, one for each worker."""

    binding: Binding
    sockets: list[socket.socket]

    @property
    def fds(self) -> list[int]:
        """The descriptors of the sockets."""
        return [sock.fileno() for sock in self.sockets]

    @property
    def is_shared(self) -> bool:
        """Whether all workers accept on one socket, as when systemd opened it."""
        return len({os.fstat(fd).st_ino for fd in self.fds}) < len(self.fds)

    def close(self) -> None:
        """Close the sockets of all workers."""
        for sock in self.sockets:
            sock.close()


def parse(item: str) -> Binding:
    """Return the binding for "APP=PORT", "APP=ADDRESS:PORT" or "APP=[IPV6]:PORT". Raises SettingsError."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise SettingsError(f"--listen {item!r}: use APP=PORT or APP=ADDRESS:PORT, like web=8080 or web=[::1]:8080")
    binding = Binding(match["app"], (match["address"] or "").strip("[]"), int(match["port"]))
    check_name("--listen", binding.app)
    _check_address(item, binding.address)
    check_port("--listen", binding.port)
    return binding


def _check_address(item: str, address: str) -> None:
    try:
        ipaddress.ip_address(address or "::")
    except ValueError:
        raise SettingsError(f"--listen {item!r}: {address} is not an IP address; use one of this host") from None


def open_listeners(listen: Iterable[str], workers: int, held: Collection[int] = ()) -> list[Listener]:
    """Open all sockets or none. Raises SettingsError, or PortTakenError, which names the program that has the port.

    `held`: ports that this process listens on already, at another address.
    """
    listeners: list[Listener] = []
    try:
        listeners.extend(_open(binding, workers, binding.port in held) for binding in map(parse, listen))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def complete(given: Iterable[Listener], listen: Iterable[str], workers: int) -> list[Listener]:
    """Return a listener for each of `listen`: a given one, or a new one. Raises as `open_listeners` does."""
    kept = {listener.binding: listener for listener in given}
    wanted = [parse(item) for item in listen]
    held = {binding.port for binding in kept}
    opened = open_listeners([str(binding) for binding in wanted if binding not in kept], workers, held)
    kept |= {listener.binding: listener for listener in opened}
    return [kept[binding] for binding in wanted]


def environment(listeners: Iterable[Listener]) -> str:
    """Return the value of LONGSHORE_LISTEN_FDS for a proxy that inherits these sockets."""
    return ";".join(f"{each.binding}={','.join(map(str, each.fds))}" for each in listeners)


def inherited(environ: Mapping[str, str]) -> list[Listener]:
    """Return the listeners that LONGSHORE_LISTEN_FDS names; none if it is not set. Raises SettingsError."""
    value = environ.get(VARIABLE, "")
    try:
        listeners = [_adopt(part) for part in value.split(";") if part]
    except (OSError, ValueError) as error:
        raise SettingsError(f"{VARIABLE} {value!r}: not listening sockets ({error}); unset it") from None
    if len({len(listener.sockets) for listener in listeners}) > 1:
        raise SettingsError(f"{VARIABLE} {value!r}: give every port one socket for each worker")
    return listeners


def _adopt(part: str) -> Listener:
    name, _, numbers = part.rpartition("=")
    sockets = []
    for number in numbers.split(","):
        sock = socket.socket(fileno=int(number))
        sock.set_inheritable(False)
        sockets.append(sock)
    return Listener(parse(name), sockets)


def _open(binding: Binding, workers: int, is_held: bool) -> Listener:
    address = binding.address or ("::" if _has_ipv6() else "0.0.0.0")
    sockets: list[socket.socket] = []
    try:
        if not is_held:  # our own sockets on another address of the port allow these beside them (SO_REUSEPORT)
            check_free(f"--listen {binding.app}", binding.port, address)
        sockets.extend(_listening_socket(address, binding.port) for _ in range(workers))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise PortTakenError(f"--listen {binding}: {error.strerror}; choose another address or port") from None
    return Listener(binding, sockets)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _listening_socket(address: str, port: int) -> socket.socket:
    """Open a listening socket. Accepted sockets inherit its options: no delay of small writes, keep-alive probes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
