"""Files that are written at once or not at all, so that no reader sees a part of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file with this content in the place of `path`; its folder is created when it is missing. Raises OSError.

    After a crash of the machine the old content may be back: nothing is synced, because what Longshore keeps in such
    files can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_name(f"{path.name}.new")
    _write(unfinished, data, os.O_TRUNC, mode)
    unfinished.replace(path)


def create_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create a file with this content, unless it exists; its folder is created when it is missing. Raises OSError.

    Of several processes that do this at once, the first decides what the file holds.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, data, os.O_EXCL, mode)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(path: Path, data: bytes, flag: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
