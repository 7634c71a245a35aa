"""The last lines of an output, as they are recorded in an event. Pure."""

from __future__ import annotations

from collections.abc import Collection

from services.common.text import printable
from services.deployer.variables.masking import mask

MOST_LINES = 20
MOST_BYTES = 4096
"""The limits of an excerpt: enough for a stack trace, and little enough for an event of each exit of a crash loop."""

READ = 4 * MOST_BYTES
"""Bytes to read for an excerpt: more than it shows, because the masks of secrets are shorter than the secrets."""


def excerpt(output: bytes, hidden: Collection[str] = ()) -> str:
    """Return the last lines of an output without control characters and without these secrets.

    `output`: its end; with READ bytes or more, the first line may begin in the middle.
    """
    masked = mask(output.decode(errors="replace"), hidden)
    if len(output) >= READ:
        masked = _without_half_a_secret(masked, hidden)
    lines = [printable(line) for line in masked.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    shown = "\n".join(lines[-MOST_LINES:]).encode()
    return shown[-MOST_BYTES:].decode(errors="ignore")


def _without_half_a_secret(masked: str, hidden: Collection[str]) -> str:
    """Return a text without its beginning, in which the rest of a secret is not recognized.

    This is the first line; of a text that has no other, as many characters as a secret may have.
    """
    _, end, others = masked.partition("\n")
    return others if end else masked[max(map(len, hidden), default=0) :]
