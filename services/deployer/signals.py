"""Names of signals. Pure."""

from __future__ import annotations

import re
import signal

NONE = "none"
_REALTIME = re.compile(r"SIGRTMIN\+([0-9]{1,2})")
_USELESS = (signal.SIGKILL, signal.SIGSTOP)
"""No process can handle them, so none can close its connections because of them."""


def parse(text: str) -> str:
    """Return the full name of a signal (TERM, sigterm, SIGTERM, RTMIN+3), empty for none. Raises ValueError."""
    if text.lower() in ("", NONE):
        return ""
    name = f"SIG{text.upper().removeprefix('SIG')}"
    if number(name) is None:
        raise ValueError(f"{text!r} is not a signal; use a name such as SIGTERM, or {NONE}")
    if number(name) in _USELESS:
        raise ValueError(f"{name} cannot be caught, so no connection is closed because of it; use another one")
    return name


def number(name: str) -> int | None:
    """Return the number of a signal by its full name, None if there is no such signal."""
    if match := _REALTIME.fullmatch(name):
        found = signal.SIGRTMIN + int(match[1])
        return found if found <= signal.SIGRTMAX else None
    known = signal.Signals.__members__.get(name)
    return known.value if known else None
