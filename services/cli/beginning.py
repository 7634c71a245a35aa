"""Where the log begins, for whom what was before matters."""

from __future__ import annotations

from services.cli import output
from services.common import reader
from services.common.bus import Bus


async def tell_beginning(bus: Bus, start: int = 1) -> None:
    """Say so when messages from sequence `start` on have left the log at its old end. Raises BusError."""
    first = (await reader.describe(bus)).first
    if first > start:
        output.progress(f"the log begins with sequence {first}: what was before has left it (--max-age, --max-bytes)")
