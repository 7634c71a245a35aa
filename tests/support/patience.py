"""How much longer a deadline is on this machine than the number in the test, measured once at the start of a run.

A deadline only ends a test that is broken, so a generous one costs a good test nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

VARIABLE = "TESTS_PATIENCE"
USUAL = 0.12
"""Seconds that two quiet cores take to start this Python with these modules: the machine that the deadlines are for."""
LEAST = 2.0
"""Above 1, since the load may begin after the measurement."""
MOST = 6.0
"""A test that hangs must end some time: pytest-timeout's 120 s become 12 minutes."""
_TRIES = 3
_START = (sys.executable, "-c", "import asyncio, ssl, urllib.request")


def measured() -> float:
    """Return the factor for this machine, with what it does besides, from the slowest of three starts of Python."""
    slowest = max(_seconds() for _ in range(_TRIES))
    return min(MOST, max(LEAST, slowest / USUAL))


def _seconds() -> float:
    start = time.monotonic()
    subprocess.run(_START, check=True)
    return time.monotonic() - start


def factor() -> float:
    """Return the factor. It is measured once: the workers of a run inherit it. `TESTS_PATIENCE` sets it by hand."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = f"{measured():.1f}"
    return float(os.environ[VARIABLE])


def patience(seconds: float) -> float:
    """Return the deadline for this machine of what takes at most so many seconds on the usual one."""
    return seconds * factor()
