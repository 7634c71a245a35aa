"""Listening sockets: one for each worker and port, all on the same address (SO_REUSEPORT).

Whoever opens them may hold them for a proxy that dies and comes back: `environment` tells the next one which
descriptors it inherits, and the kernel keeps queueing clients in the meantime.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping

import msgspec

from schemas.routing import authority
from services.common.config.settings import check_name, check_port
from services.common.errors import PortTakenError, SettingsError
from services.common.process.ports import check_free

VARIABLE = "LONGSHORE_LISTEN_FDS"
_ITEM = re.compile(r"(?P<app>[^=]*)=(?:(?P<address>\[[^\]]+\]|[^:=\[\]]+):)?(?P<port>\d{1,9})")
_BACKLOG = 4096


class Binding(msgspec.Struct, frozen=True):
    """Where the clients of an app come in. Without an address: on all, IPv6 and IPv4."""

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
        return [sock.fileno() for sock in self.sockets]

    @property
    def is_shared(self) -> bool:
        """Whether all workers accept on one socket, as when systemd opened it."""
        return len({os.fstat(fd).st_ino for fd in self.fds}) < len(self.fds)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def parse(item: str) -> Binding:
    """The binding that "APP=PORT", "APP=ADDRESS:PORT" or "APP=[IPV6]:PORT" names. Raises SettingsError."""
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
        raise SettingsError(f"--listen {item!r}: {address} is not an IP address of this host") from None


def open_listeners(listen: Iterable[str], workers: int) -> list[Listener]:
    """Open all sockets, or none: raises SettingsError, or PortTakenError with the holder."""
    listeners: list[Listener] = []
    try:
        listeners.extend(_open(binding, workers) for binding in map(parse, listen))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def complete(given: Iterable[Listener], listen: Iterable[str], workers: int) -> list[Listener]:
    """A listener for each of these, those that are given included. Raises as `open_listeners` does."""
    kept = {listener.binding: listener for listener in given}
    wanted = [parse(item) for item in listen]
    opened = open_listeners([str(binding) for binding in wanted if binding not in kept], workers)
    kept |= {listener.binding: listener for listener in opened}
    return [kept[binding] for binding in wanted]


def environment(listeners: Iterable[Listener]) -> str:
    """The value of LONGSHORE_LISTEN_FDS for a proxy that inherits these sockets."""
    return ";".join(f"{each.binding}={','.join(map(str, each.fds))}" for each in listeners)


def inherited(environ: Mapping[str, str]) -> list[Listener]:
    """The listeners that LONGSHORE_LISTEN_FDS names; none if it is not set. Raises SettingsError."""
    value = environ.get(VARIABLE, "")
    try:
        listeners = [_adopt(part) for part in value.split(";") if part]
    except (OSError, ValueError) as error:
        raise SettingsError(f"{VARIABLE} {value!r} names no listening sockets ({error}): unset it") from None
    if len({len(listener.sockets) for listener in listeners}) > 1:
        raise SettingsError(f"{VARIABLE} {value!r}: every port needs as many sockets as there are workers")
    return listeners


def _adopt(part: str) -> Listener:
    name, _, numbers = part.rpartition("=")
    sockets = []
    for number in numbers.split(","):
        sock = socket.socket(fileno=int(number))
        sock.set_inheritable(False)
        sockets.append(sock)
    return Listener(parse(name), sockets)


def _open(binding: Binding, workers: int) -> Listener:
    address = binding.address or ("::" if _has_ipv6() else "0.0.0.0")
    sockets: list[socket.socket] = []
    try:
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
    """What accepted sockets inherit is set here once: no delay for small writes, and probes of silent peers."""
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
