"""Dialing: opening a connection to a backend without waiting for it."""

from __future__ import annotations

import errno
import functools
import socket
import struct
import time
from pathlib import Path

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of a process or host without room for another socket, to any backend."""

_IMMEDIATE_FAULTS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.ETIMEDOUT: "timeout"}
_LATER_FAULTS = _IMMEDIATE_FAULTS | {errno.EHOSTUNREACH: "unreachable"}
"""Faults of a backend by errno. An error that connect(2) returns at once comes from this host, or from a backend on it.

A later "no route to host" means that the backend's host does not answer ARP, or that a router reports it. Any other
error (no free local port, no network, a firewall rule) says nothing about the backend.
"""

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_NO_LINGER = struct.pack("ii", 1, 0)


def dial(address: tuple[str, int]) -> tuple[socket.socket | None, int]:
    """Connect to an IP address.

    Return a socket and 0 if it is connected, which is usual on the same host; a socket and EINPROGRESS, whose
    outcome `answer` returns once epoll reports it; or None and the errno.
    """
    try:
        sock = socket.socket(family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.EIO
    problem = _connect(sock, address)
    if problem in (0, errno.EINPROGRESS):
        return sock, problem
    sock.close()
    return None, problem


def answer(sock: socket.socket, address: tuple[str, int], has_error: bool) -> int:
    """Return the outcome of a dial: 0 for a connection, else an errno. `has_error`: epoll reports an error."""
    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if has_error else 0
    return problem or _self_connection_error(sock, address)


def _connect(sock: socket.socket, address: tuple[str, int]) -> int:
    try:
        problem = sock.connect_ex(address)
    except (OSError, ValueError, OverflowError):  # not an address, or not a port
        return errno.EINVAL
    if problem != errno.EINPROGRESS:
        return problem or _self_connection_error(sock, address)
    try:
        sock.send(b"")  # sends nothing, but fails until the handshake is over
    except BlockingIOError:
        return errno.EINPROGRESS
    except OSError as error:
        return error.errno or errno.EIO
    return _self_connection_error(sock, address)


def _self_connection_error(sock: socket.socket, address: tuple[str, int]) -> int:
    """Return ECONNREFUSED for a socket that is connected to itself, else 0.

    The kernel can give a port on which no program listens to the very socket that dials it, and TCP then connects the
    socket to itself (RFC 9293, simultaneous open). That happens to ports of the ephemeral range only.
    """
    is_own = address[1] in _ephemeral_ports(int(time.monotonic())) and _is_own_end(sock, address[1])
    return errno.ECONNREFUSED if is_own else 0


@functools.lru_cache(maxsize=1)
def _ephemeral_ports(second: int) -> range:
    """Return the ports that the kernel chooses from. It is read once a second: an administrator may change it."""
    try:
        first, last = _RANGE.read_text().split()
    except (OSError, ValueError):
        return range(1 << 16)
    return range(int(first), int(last) + 1)


def _is_own_end(sock: socket.socket, port: int) -> bool:
    try:
        ours = sock.getsockname()
        return bool(ours[1] == port and ours == sock.getpeername())
    except OSError:  # the connection has ended already: it was a real one
        return False


def fault(problem: int, at_once: bool) -> str:
    """Return what the errno of a dial says about the backend, as in DialFailed; empty for a problem of this host.

    `at_once`: connect(2) returned it, before any packet came back.
    """
    return (_IMMEDIATE_FAULTS if at_once else _LATER_FAULTS).get(problem, "")


def family(address: tuple[str, int]) -> socket.AddressFamily:
    """Return the family of an IP address."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def reset_on_close(sock: socket.socket) -> None:
    """Make closing a socket reset its connection (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
