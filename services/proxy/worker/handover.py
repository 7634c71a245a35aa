"""What nobody has taken when a worker ends: written to a file, for the next process of the service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from schemas import handover
from schemas.handover import SealedBatch


def write(folder: str, name: str, batches: Iterable[SealedBatch]) -> None:
    """Leave batches behind. Nobody is left to be told when there is no room for them."""
    path = Path(folder) / f"{name}{handover.SUFFIX}"
    unfinished = path.with_suffix(".unfinished")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished.write_bytes(handover.encode(list(batches)))
        unfinished.replace(path)
