"""The handover file: batches without an acknowledgement when a worker ends, for the next process of the service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from schemas import handover
from schemas.chain import SealedBatch


def write(folder: str, name: str, batches: Iterable[SealedBatch]) -> None:
    """Write batches to the file. An error is ignored: no master is left to report it to."""
    path = Path(folder) / f"{name}{handover.SUFFIX}"
    unfinished = path.with_suffix(".unfinished")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished.write_bytes(handover.encode(list(batches)))
        unfinished.replace(path)
