"""Free ports for replicas, apart from those that the services of this host use or will use."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec

from services.common.errors import LongshoreError, ReleaseError
from services.common.files import replace_atomically

LOWEST = 20000
RESERVED = "reserved-ports.json"
"""The file in the state folder with the ports of the services of this host.

A service may bind its port after a replica starts, or again after it was down: a test bind finds the port free then.
"""
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


def reserve(state_dir: Path, ports: Iterable[int]) -> None:
    """Keep these ports for services: no deployer of this state folder gives them to a replica from now on.

    Raises LongshoreError if the folder takes no file.
    """
    try:
        replace_atomically(state_dir / RESERVED, msgspec.json.encode(sorted(set(ports))))
    except OSError as error:
        raise LongshoreError(
            f"--state-dir {state_dir}: {error.strerror}; make room there, or choose a folder that you can write"
        ) from None


def reserved(state_dir: Path) -> set[int]:
    """Return the ports that are kept for services; none without a supervisor."""
    try:
        return msgspec.json.decode((state_dir / RESERVED).read_bytes(), type=set[int])
    except (OSError, msgspec.MsgspecError):
        return set()


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
