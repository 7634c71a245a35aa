"""Where the log begins, for whom what was before matters."""

from __future__ import annotations

from services.cli import output
from services.common.bus.connection import Bus
from services.common.jetstream import log_reader


async def warn_if_truncated(bus: Bus, start: int = 1) -> None:
    """Say so when messages from sequence `start` on have left the log at its old end. Raises BusError."""
    first = (await log_reader.describe(bus)).first
    if first > start:
        output.progress(f"the log begins with sequence {first}: what was before has left it (--max-age, --max-bytes)")
