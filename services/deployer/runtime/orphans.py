"""Processes that a replica left behind, found by the mark in their environment: process ids are reused."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "LONGSHORE_REPLICA"
SESSION = "LONGSHORE_SESSION"
"""The variable with the session of a command that a person runs in a replica or beside it."""
OWNER = "LONGSHORE_OWNER"
"""The variable with the folder of the deployer (`owner`) of such a command: the next deployer ends what a killed one
left. The kernel ends only the command itself with its deployer, not what the command started."""
ROUNDS = 10
"""Rounds until no orphan is left: a process may fork between the look and the kill, but not ten times in a row."""

EMPTY_ROUNDS = 2
"""Rounds without an orphan that prove that there is none: while a process executes another program, it has no
environment for a moment."""
PAUSE = 0.02
"""Seconds between two rounds; an execve takes less than a millisecond on an idle host."""


def owner(root: Path) -> str:
    """Return the name of a deployer's folder on this host. In another container, its path may be another folder."""
    found = root.stat()
    return f"{found.st_dev:x}:{found.st_ino:x}"


def find(*names: str, mark: str = MARK) -> Iterator[int]:
    """Yield the processes of this user (of all, for root) that these replicas started, however indirectly.

    `mark`: the variable that holds the names. It reads the environment of every process of the host: call it in a
    thread.
    """
    marks = _marks(mark, names)
    for process in Path("/proc").glob("[0-9]*"):
        if _belongs(int(process.name), marks):
            yield int(process.name)


def kill(*names: str, mark: str = MARK) -> None:
    """Kill all processes that these replicas left, and those that they start meanwhile. As slow as `find`."""
    empty = 0
    for _ in range(ROUNDS):
        pids = list(find(*names, mark=mark))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _kill(pid, _marks(mark, names))
        empty = 0 if pids else empty + 1
        if empty == EMPTY_ROUNDS:
            return
        time.sleep(PAUSE)


def _kill(pid: int, marks: set[bytes]) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        if _belongs(pid, marks):  # asked again, now that the descriptor holds on to this very process
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _marks(mark: str, names: Iterable[str]) -> set[bytes]:
    return {f"{mark}={name}".encode() for name in names}


def _belongs(pid: int, marks: set[bytes]) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return not marks.isdisjoint(variables)
