"""The last lines of an output, as they are recorded in an event. Pure."""

from __future__ import annotations

from collections.abc import Collection

from services.common.text import printable
from services.deployer.variables.masking import mask

MOST_LINES = 20
MOST_BYTES = 4096
"""The limits of an excerpt: enough for a stack trace, and little enough for an event of each exit of a crash loop."""

READ = 4 * MOST_BYTES
"""Bytes to read for an excerpt. A secret that the first byte cuts in two is not recognized, and is not in the excerpt:
that takes at most a quarter of them."""


def excerpt(output: bytes, hidden: Collection[str] = ()) -> str:
    """Return the last lines of an output without control characters and without these secrets."""
    text = mask(output.decode(errors="replace"), hidden)
    lines = [printable(line) for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    shown = "\n".join(lines[-MOST_LINES:]).encode()
    return shown[-MOST_BYTES:].decode(errors="ignore")
