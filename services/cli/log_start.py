"""A warning for commands that read a log whose oldest messages were removed."""

from __future__ import annotations

from services.cli import output
from services.common.bus.connection import Bus
from services.common.jetstream import log_reader


async def warn_if_truncated(bus: Bus, start: int = 1) -> None:
    """Warn when messages from sequence `start` on were removed from the log. Raises BusError."""
    first = (await log_reader.describe(bus)).first
    if first > start:
        output.progress(f"the log begins with sequence {first}: older messages were removed (--max-age, --max-bytes)")
