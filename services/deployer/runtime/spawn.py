"""Starts a replica's shim, and reads its report."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from services.deployer.registry.program import why_not_executed
from services.deployer.runtime import shim
from services.deployer.runtime.replica_dir import ReplicaDirectory

START_TIMEOUT = 10.0
"""Seconds for a shim to start its program. It takes milliseconds; a busy host or a slow disk may need seconds."""


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


async def read(descriptor: int) -> str:
    """Return a shim's report, empty if there is none in time."""
    loop = asyncio.get_running_loop()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                return (await reader.read(1 << 16)).decode()
        except TimeoutError:
            return ""
        finally:
            transport.close()


def problem(folder: ReplicaDirectory, program: Path, answer: str) -> str:
    """Return what went wrong, by the shim's report."""
    if answer == "started":
        return f"nothing can be written in {folder.path}: is the disk full?"
    return why_not_executed(program, answer.removeprefix("failed ")) or "its shim died"


def discard(pid: int) -> None:
    """Kill a shim that failed; its program ends with it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
