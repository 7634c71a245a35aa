"""Opening a connection to a backend without waiting for it."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.proxy.worker.balancer import Target

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This process or host has no room for another socket: no backend's fault."""

_REASONS = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "reset"}


_NO_LINGER = struct.pack("ii", 1, 0)


def dial(target: Target) -> tuple[socket.socket | None, int]:
    """A socket that is connecting, or None and the errno that tells why there is none."""
    try:
        sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, error.errno or errno.EIO
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    problem = sock.connect_ex(target.address)
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
