"""Every pinned package as a wheel, for an installation that cannot reach a package index."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(tempfile.gettempdir()) / f"longshore-tests-{os.getuid()}"
"""What tests keep for the next run."""


def wheelhouse() -> Path:
    """Return a folder with the wheels; the first call of a machine downloads them."""
    pins = ROOT / "constraints.txt"
    folder = CACHE / f"wheels-{sha256(pins.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        CACHE.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            download = ("download", "--quiet", "--only-binary", ":all:", "--no-deps", "--python-version", "3.11")
            pinned = ("--require-hashes", "--requirement", pins, "--dest", f"{unfinished}/wheels")
            subprocess.run([sys.executable, "-m", "pip", *download, *pinned], check=True)
            try:
                Path(unfinished, "wheels").rename(folder)
            except OSError:  # another worker of this run was first
                if not folder.exists():
                    raise
    return folder
