"""The state directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.errors import SettingsError


@contextmanager
def lock(state_dir: str, name: str) -> Iterator[None]:
    """Hold `<state_dir>/<name>.lock`. Raises SettingsError, with the process that holds it, when it is taken."""
    path = Path(state_dir) / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"--state-dir {state_dir}: {error.strerror}; choose a folder that you can write") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode() or "unknown"
        os.close(descriptor)
        raise SettingsError(
            f"--state-dir {state_dir}: in use by process {holder}; stop it, or choose another --state-dir"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)
