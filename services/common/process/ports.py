"""Checks that a port is free, and finds the process that listens on it."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from services.common.errors import PortTakenError

_LISTEN = "0A"


def check_free(option: str, port: int, address: str = "") -> None:
    """Raise PortTakenError if the port cannot be bound; it names the process that holds the port, if it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            raise PortTakenError(
                f"{option} {port}: not permitted; use a port from 1024 on, or grant CAP_NET_BIND_SERVICE"
            ) from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise PortTakenError(f"{option} {port}: this host has no address {address}; use one it has") from None
            holder = _holder(port)
            by = f" by {holder}" if holder else f" ({error.strerror})"
            raise PortTakenError(f"{option} {port}: taken{by}; stop it or choose another port") from None


def _holder(port: int) -> str:
    """Return the name and process id of the listener on `port`; empty when it is unknown."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if sockets and _open_sockets(process) & sockets:
            return f"{_name(process)} (process {process.name})"
    return ""


def _listening_inodes(port: int) -> list[str]:
    rows = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows += [line.split() for line in _lines(table)[1:]]
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rsplit(":", 1)[1], 16) == port]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _open_sockets(process: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # it may be closed by now
                found.add(str(descriptor.readlink()))
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process that just ended"
