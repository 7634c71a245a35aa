"""The identity of this Longshore towards a container engine: two of them ignore each other's containers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from services.common.errors import SettingsError
from services.common.ids import uuid7


def identify(state_dir: str) -> str:
    """Return the id in `<state_dir>/instance`, made when it is missing. It lives as long as the folder."""
    path = Path(state_dir) / "instance"
    try:
        if not path.exists():
            _create(path)
        identity = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"--state-dir {state_dir}: {error.strerror}; choose a folder that you can write") from None
    if not identity:
        raise SettingsError(
            f"{path} is empty: write into it the label longshore.instance of its containers, or remove it"
        )
    return identity


def _create(path: Path) -> None:
    """Create the file unless another process was first. No reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(uuid7())
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
