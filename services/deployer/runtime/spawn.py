"""The start of a shim."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.deployer.runtime import shim
from services.deployer.runtime.replica_dir import ReplicaDirectory


def spawn(folder: ReplicaDirectory, program: Path, variables: dict[str, str], drain: int) -> tuple[int, int]:
    """Start a shim. Return its process id, and the descriptor on which it reports."""
    lock = folder.lock()
    try:
        report, its_report = os.pipe()
    except OSError:
        os.close(lock)
        raise
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", shim.__file__, str(folder.path), str(program), str(drain)],
            variables,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, its_report, shim.REPORT),
                (os.POSIX_SPAWN_OPEN, 2, str(folder.output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, lock, shim.LOCK),
            ],
            setsid=True,
            setsigmask=(),
        )
    except OSError:
        os.close(report)
        raise
    finally:
        os.close(its_report)
        os.close(lock)
    return pid, report
