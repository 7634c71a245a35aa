"""Free ports for replicas."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Container
from pathlib import Path

from services.common.errors import ReleaseError

LOWEST = 20000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free(host: str, taken: Container[int]) -> int:
    """Return a free port of `host` that is not in `taken`.

    Raises ReleaseError if there is none, OSError if this process can open no socket. The port lies below those that the
    system gives to outgoing connections: among those, one of the proxy's own connections could take it before the
    replica listens.
    """
    candidates = list(range(LOWEST, max(_first_ephemeral(), LOWEST + 1000)))
    random.shuffle(candidates)
    for port in candidates:
        if port not in taken and _is_free(host, port):
            return port
    raise ReleaseError(f"no free port on {host} from {LOWEST} on: stop what uses them")


def _first_ephemeral() -> int:
    return int(_RANGE.read_text().split()[0])


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise  # of this process, not of the port
        return True
