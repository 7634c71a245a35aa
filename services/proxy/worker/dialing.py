"""Opening a connection to a backend without waiting for it."""

from __future__ import annotations

import errno
import socket
import struct

SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This process or host has no room for another socket, to whatever backend."""

_SAID_AT_ONCE = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.ETIMEDOUT: "timeout"}
_SAID_LATER = _SAID_AT_ONCE | {errno.EHOSTUNREACH: "unreachable"}
"""What connect(2) returns at once was decided by this host, unless a backend on this host has answered already.

"No route to host" later means that the backend's host does not answer ARP, or that a router says so. Any other
error (no free local port, no network, a firewall rule) says nothing about the backend.
"""

_NO_LINGER = struct.pack("ii", 1, 0)


def dial(address: tuple[str, int]) -> tuple[socket.socket | None, int]:
    """Connect to an IP address; returns a socket that is connecting, or None and the errno that says why not."""
    try:
        sock = socket.socket(family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.EIO
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        problem = sock.connect_ex(address)
    except (OSError, ValueError, OverflowError):  # not an address, or a port that there is not
        problem = errno.EINVAL
    if problem in (0, errno.EINPROGRESS):
        return sock, 0
    sock.close()
    return None, problem


def answer(sock: socket.socket) -> int:
    """How a dial ended: 0 when it is connected to somebody, else an errno.

    A port of the ephemeral range on which nobody listens can be given to the very socket that dials it, and TCP then
    connects the socket to itself (RFC 9293, simultaneous open).
    """
    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return problem or (errno.ECONNREFUSED if is_own_end(sock) else 0)


def is_own_end(sock: socket.socket) -> bool:
    """Whether a connected socket is connected to itself."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # the connection has ended already: it was one
        return False


def fault(problem: int, at_once: bool) -> str:
    """What the errno of a dial says about the backend, as DialFailed has it; empty: nothing, it is this host's.

    `at_once`: connect(2) returned it, before anything was heard.
    """
    return (_SAID_AT_ONCE if at_once else _SAID_LATER).get(problem, "")


def family(address: tuple[str, int]) -> socket.AddressFamily:
    """The family of an IP address."""
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def reset_on_close(sock: socket.socket) -> None:
    """Make closing a socket reset its connection (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
