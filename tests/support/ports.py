"""TCP ports on loopback."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from pathlib import Path

from tests.support.patience import patience

FIRST, SHARE, SHARES = 10_000, 1_000, 10
"""Ports below those of replicas (20,000) and of outgoing connections (32,768): each test process has a share. None is
given to a client while its server is down."""
FIXED = (16_686, 17_539)
"""Ports of the demo and of the stack for telemetry."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SHARES
_ports = itertools.cycle(range(FIRST + _worker * SHARE, FIRST + (_worker + 1) * SHARE))
for _ in range(os.getpid() % SHARE):  # another run of the tests begins elsewhere
    next(_ports)


def free_port() -> int:
    """Return a TCP port of loopback that no process uses now, and that this test process has not returned for long."""
    for port in itertools.islice(_ports, SHARE):
        if port in FIXED:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {SHARE} is free")


def first_ephemeral_port() -> int:
    """Return the lowest port that the kernel gives to outgoing connections (ip(7))."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def until_listening(port: int, process: subprocess.Popen[bytes], log: Path, address: str = "127.0.0.1") -> None:
    """Wait until the process accepts connections there; an assertion with the log if it ends before."""
    deadline = time.monotonic() + patience(30)
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0 and process.poll() is None:
                return
        time.sleep(0.02)
    raise AssertionError(log.read_text())
