"""Processes that a replica left behind, found by the mark in their environment: numbers may belong to strangers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "LONGSHORE_REPLICA"
ROUNDS = 10


def find(replica: str) -> Iterator[int]:
    """The processes of this user (of all, for root) that were started by a replica, however indirectly."""
    for process in Path("/proc").glob("[0-9]*"):
        if _belongs(int(process.name), replica):
            yield int(process.name)


def kill(replica: str) -> None:
    """SIGKILL whatever is left of a replica, and what it started meanwhile."""
    for _ in range(ROUNDS):
        pids = list(find(replica))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _kill(pid, replica)
        if not pids:
            return


def _kill(pid: int, replica: str) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        if _belongs(pid, replica):  # asked again, now that the descriptor holds on to this very process
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _belongs(pid: int, replica: str) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={replica}".encode() in variables
