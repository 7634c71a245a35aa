"""The releases of the example application, in a folder that a dir:// registry reads."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

FIRST, SECOND, BROKEN = "1.0.0", "1.1.0", "1.2.0"


def publish(registry: Path, release: str) -> None:
    """Add a complete release to the registry in one step."""
    unfinished = registry / f".{release}"
    unfinished.mkdir(parents=True)
    with files("services.demo").joinpath("example/app.py").open("rb") as source:
        (unfinished / "app.py").write_bytes(source.read())
    if release == BROKEN:
        (unfinished / "broken").touch()
    run = unfinished / "run"
    run.write_text(f"#!/bin/sh\nexec {sys.executable} -S app.py\n")
    run.chmod(0o755)
    unfinished.rename(registry / release)
