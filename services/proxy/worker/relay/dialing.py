"""Opening a connection to a backend without waiting for it."""

from __future__ import annotations

import errno
import functools
import socket
import struct
import time
from pathlib import Path

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This process or host has no room for another socket, to whatever backend."""

_IMMEDIATE_FAULTS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.ETIMEDOUT: "timeout"}
_LATER_FAULTS = _IMMEDIATE_FAULTS | {errno.EHOSTUNREACH: "unreachable"}
"""What connect(2) returns at once was decided by this host, unless a backend on this host has answered already.

"No route to host" later means that the backend's host does not answer ARP, or that a router says so. Any other
error (no free local port, no network, a firewall rule) says nothing about the backend.
"""

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_NO_LINGER = struct.pack("ii", 1, 0)


def dial(address: tuple[str, int]) -> tuple[socket.socket | None, int]:
    """Connect to an IP address.

    Returns a socket and 0 if it is connected, as it mostly is at once on the same host, or EINPROGRESS: `answer` says
    more once epoll does. Or None and the errno that says why not.
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
    """How a dial ended: 0 when there is a connection, else an errno. `has_error`: epoll says that there is one."""
    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if has_error else 0
    return problem or _self_connection_error(sock, address)


def _connect(sock: socket.socket, address: tuple[str, int]) -> int:
    try:
        problem = sock.connect_ex(address)
    except (OSError, ValueError, OverflowError):  # not an address, or a port that there is not
        return errno.EINVAL
    if problem != errno.EINPROGRESS:
        return problem or _self_connection_error(sock, address)
    try:
        sock.send(b"")  # sends nothing, and tells whether the handshake is over
    except BlockingIOError:
        return errno.EINPROGRESS
    except OSError as error:
        return error.errno or errno.EIO
    return _self_connection_error(sock, address)


def _self_connection_error(sock: socket.socket, address: tuple[str, int]) -> int:
    """ECONNREFUSED for a socket that is connected to itself, else 0.

    A port on which nothing listens can be given to the very socket that dials it, and TCP then connects the socket to
    itself (RFC 9293, simultaneous open). Only ports of the ephemeral range are given away.
    """
    is_own = address[1] in _ephemeral_ports(int(time.monotonic())) and _is_own_end(sock, address[1])
    return errno.ECONNREFUSED if is_own else 0


@functools.lru_cache(maxsize=1)
def _ephemeral_ports(second: int) -> range:
    """The ports that the kernel chooses from, as they were in a second: administrators change that."""
    try:
        first, last = _RANGE.read_text().split()
    except (OSError, ValueError):
        return range(1 << 16)
    return range(int(first), int(last) + 1)


def _is_own_end(sock: socket.socket, port: int) -> bool:
    try:
        ours = sock.getsockname()
        return bool(ours[1] == port and ours == sock.getpeername())
    except OSError:  # the connection has ended already: it was one
        return False


def fault(problem: int, at_once: bool) -> str:
    """What the errno of a dial says about the backend, as DialFailed has it; empty: nothing, it is this host's.

    `at_once`: connect(2) returned it, before anything was heard.
    """
    return (_IMMEDIATE_FAULTS if at_once else _LATER_FAULTS).get(problem, "")


def family(address: tuple[str, int]) -> socket.AddressFamily:
    """The family of an IP address."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def reset_on_close(sock: socket.socket) -> None:
    """Make closing a socket reset its connection (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
