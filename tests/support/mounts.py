"""File systems of a test's own: a script of the shell that may mount, in a namespace that ends with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ENTER = ("unshare", "--map-root-user", "--mount")
DEADLINE = 120.0


def mounting(script: str, folder: Path, **variables: str) -> str:
    """What a script says on both outputs, with `$DISK` an empty folder to mount on; all of it must succeed.

    Where this user may not mount the test is skipped, but never in CI.
    """
    _may_mount()
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        [*ENTER, "sh", "-ec", script],
        env={**os.environ, "DISK": str(disk), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _may_mount() -> None:
    tried = subprocess.run([*ENTER, "true"], capture_output=True, text=True, check=False)
    if tried.returncode and not os.environ.get("CI"):
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")
