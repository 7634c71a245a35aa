"""A proposal for a misspelled name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.6
"""How alike two names must be, from 0 to 1, so that one is proposed for the other: `replica` and `replicas`."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a half sentence with the known name that is most like this one; empty if none is."""
    lower = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), lower, 1, NEAR)
    return f"; did you mean {lower[found[0]]}?" if found else ""
