"""Exits in words. Pure."""

from __future__ import annotations

from schemas.events import UNSEEN, ReplicaExited
from services.deployer.runtime.protocol import Exit


def describe_exit(end: Exit | ReplicaExited) -> str:
    """Return an exit in words: `exited with code 1`, `was killed by signal 9, out of memory`."""
    if end.code == UNSEEN:
        return "ended unseen"
    ended = f"was killed by signal {-end.code}" if end.code < 0 else f"exited with code {end.code}"
    return f"{ended}, out of memory" if end.oom else ended
