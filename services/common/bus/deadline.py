"""Deadlines of requests: a request is not executed when its sender has stopped waiting.

A request may wait for long in a stopped process or in the buffers of a connection. The clocks of two hosts may differ,
so no deadline is a time of day. Instead the requester asks for the responder's clock first, and sends a deadline on
that clock: it is too early by the duration of the first request, never too late. Only the responder compares, with a
clock that also counts while its machine sleeps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

import msgspec

from services.common.errors import LongshoreError

ASK = "Longshore-Ask"
CLOCK = "clock"
"""The value of ASK in a request for the responder's clock."""

DEADLINE = "Longshore-Deadline"

BEGIN_WITHIN = 0.5
"""The share of the requester's timeout in which the responder may begin a change. The rest is for the change itself and
for the answer."""

_PROCESS = secrets.token_hex(8)
"""The id of this process in its readings: a reading of another process, or of another machine, means nothing here."""


class LateError(LongshoreError):
    """The requester does not wait any more, or gave no deadline."""


class Reading(msgspec.Struct, frozen=True):
    """A moment (seconds) on the clock of a process."""

    process: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.process}:{self.seconds}"

    def later(self, seconds: float) -> Reading:
        return Reading(self.process, self.seconds + seconds)

    @property
    def is_over(self) -> bool:
        return self.process != _PROCESS or not clock() < self.seconds  # also true for NaN


def clock() -> float:
    """Return seconds on a clock that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> Reading:
    """Return the reading of this process' clock."""
    return Reading(_PROCESS, clock())


def parse(text: str) -> Reading:
    """Parse a reading. Raises ValueError."""
    process, _, seconds = text.partition(":")
    return Reading(process, float(seconds))


def check(headers: Mapping[str, str]) -> None:
    """Raise LateError unless the sender of a request with these headers still waits for its answer."""
    text = headers.get(DEADLINE, "")
    if not text:
        raise LateError("the command has no deadline: upgrade the program that sent it; nothing was changed")
    try:
        is_over = parse(text).is_over
    except ValueError:
        raise LateError(f"the deadline {text[:40]!r} of the command is invalid; nothing was changed") from None
    if is_over:
        raise LateError("the command came too late, its sender has given up: nothing was changed")
