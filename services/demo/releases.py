"""The releases of the example application, in a folder that a dir:// registry reads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

FIRST, SECOND, BROKEN = "1.0.0", "1.1.0", "1.2.0"


def publish(registry: Path, release: str) -> None:
    """Add a complete release to the registry in one step."""
    unfinished = registry / f".{release}"
    unfinished.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("example") / "app.py", unfinished / "app.py")
    if release == BROKEN:
        (unfinished / "broken").touch()
    run = unfinished / "run"
    run.write_text(f"#!/bin/sh\nexec {sys.executable} -S app.py\n")
    run.chmod(0o755)
    unfinished.rename(registry / release)
