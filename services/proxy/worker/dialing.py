"""Opening a connection to a backend without waiting for it."""

from __future__ import annotations

import errno
import socket
import struct

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This process or host has no room for another socket: no backend's fault."""

_REASONS = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "reset"}


_NO_LINGER = struct.pack("ii", 1, 0)


def dial(address: tuple[str, int]) -> tuple[socket.socket | None, int]:
    """A socket that is connecting to an IP address, or None and the errno that tells why there is none."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.EIO
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        problem = sock.connect_ex(address)
    except (OSError, ValueError, OverflowError):  # no address at all, as gaierror is
        problem = errno.EINVAL
    if problem in (0, errno.EINPROGRESS):
        return sock, 0
    sock.close()
    return None, problem


def reset_on_close(sock: socket.socket) -> None:
    """Make closing a socket reset its connection (socket(7), SO_LINGER)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def reason(problem: int) -> str:
    """An errno as a DialFailed event tells it."""
    return _REASONS.get(problem, "unreachable")
