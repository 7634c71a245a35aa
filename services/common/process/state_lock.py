"""The state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.errors import SettingsError

RETRY = 0.05


@contextmanager
def lock(
    state_dir: str, name: str, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[int]:
    """Hold `<state_dir>/<name>.lock`; its descriptor may be handed to a child that is to hold it as well.

    Raises SettingsError, with the process that holds it, when it is still taken after `wait` seconds; `on_wait` is
    called with that process when the wait begins.
    """
    path = Path(state_dir) / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"--state-dir {state_dir}: {error.strerror}; choose a folder that you can write") from None
    try:
        if not _taken(descriptor, 0.0):
            holder = os.pread(descriptor, 32, 0).decode() or "unknown"
            if wait > 0:
                on_wait(holder)
            if not _taken(descriptor, wait):
                raise SettingsError(
                    f"--state-dir {state_dir}: in use by process {holder}; stop it, or choose another --state-dir"
                )
        _write_holder(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_holder(descriptor: int) -> None:
    """Say who holds it. On a full disk the lock is held all the same."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())


def _taken(descriptor: int, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(RETRY)
