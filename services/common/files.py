"""Files that are written at once or not at all, so that no reader sees a part of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file with this content in the place of `path`; its folder is created when it is missing. Raises OSError.

    After a crash of the machine the file may have its old content: these files are caches and records of processes
    that a crash ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    unfinished.replace(path)


def create_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Create a file with this content, unless it exists; its folder is created when it is missing. Raises OSError.

    Of several processes that do this at once, the first decides what the file holds. It is on the disk when this
    returns: identities and tokens outlive a crash of the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)
        _sync(path.parent)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
