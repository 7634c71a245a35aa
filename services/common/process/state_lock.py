"""Lock files in the state directory."""

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

SERVICES = "services"
"""The lock that each service holds with the others while it runs. Who holds it alone knows that none runs."""


@contextmanager
def used(state_dir: str) -> Iterator[None]:
    """Hold the lock of the services together with the others. A folder that this process cannot write needs none.

    Raises SettingsError while another process holds it alone, to save or to move the state.
    """
    descriptor = -1
    with contextlib.suppress(OSError):
        descriptor = _open(Path(state_dir) / f"{SERVICES}.lock")
    try:
        if descriptor >= 0 and not _acquire(descriptor, 0.0, fcntl.LOCK_SH):
            raise SettingsError(f"--state-dir {state_dir}: is being saved or moved; start again when that is done")
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def lock(
    state_dir: str, name: str, wait: float = 0.0, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[int]:
    """Hold `<state_dir>/<name>.lock`; its descriptor may be passed to a child that holds the lock as well.

    Raises SettingsError, with the process that holds it, when it is still taken after `wait` seconds; `on_wait` is
    called with that process when the wait begins.
    """
    path = Path(state_dir) / f"{name}.lock"
    try:
        descriptor = _open(path)
    except OSError as error:
        raise SettingsError(f"--state-dir {state_dir}: {error.strerror}; choose a folder that you can write") from None
    try:
        if not _acquire(descriptor, 0.0):
            holder = os.pread(descriptor, 32, 0).decode() or "unknown"
            if wait > 0:
                on_wait(holder)
            if not _acquire(descriptor, wait):
                raise SettingsError(
                    f"--state-dir {state_dir}: in use by process {holder}; stop it, or choose another --state-dir"
                )
        _write_holder(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _write_holder(descriptor: int) -> None:
    """Write the process id into the lock file. On a full disk, the lock is held without it."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())


def _acquire(descriptor: int, wait: float, kind: int = fcntl.LOCK_EX) -> bool:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(RETRY)
