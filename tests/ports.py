"""Ports for servers that a test stops and starts again."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LASTING = range(10000, 20000)
"""Below those of the kernel's outgoing connections, and below those that a deployer gives to its replicas."""


def first_ephemeral_port() -> int:
    """The lowest port that the kernel gives to outgoing connections (ip(7))."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def lasting_port() -> int:
    """A TCP port on loopback that is free now, and that no outgoing connection takes while its server is down.

    A port of the ephemeral range is given to any client, and for a minute after that client nobody can listen on it.
    """
    while True:
        port = random.choice(LASTING)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
