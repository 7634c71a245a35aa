"""A disk of its own that is soon full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]


class Disk:
    """A folder with so much room (bytes)."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._ballast = folder / "ballast"

    def mount(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},uid={os.getuid()},gid={os.getgid()},mode=700"
        subprocess.run([*_AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)

    def unmount(self) -> None:
        subprocess.run([*_AS_ROOT, "umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size: int = 64 << 20) -> Iterator[Disk]:
    """A disk; where this user may mount none the test is skipped, but never in CI."""
    if _AS_ROOT and not os.environ.get("CI") and subprocess.run([*_AS_ROOT, "true"], check=False).returncode:
        pytest.skip("no small disk here: it takes root, or sudo without a password")
    disk = Disk(folder, size)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
