"""W3C Trace Context (level 1) of a command, from its sender through the bus to the deployer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

import msgspec

from services.common.ids import span_id, trace_id

TRACEPARENT = "traceparent"
CALLER = "longshore-caller"
CLI = "cli"

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Cause(msgspec.Struct, frozen=True):
    """The trace and the span of a command's sender; empty when the command carries none.

    `caller` is "cli" for a command line, which reports no span itself: it has the parent `caller_parent` and sent the
    command at `sent` (unix seconds).
    """

    trace: str = ""
    span: str = ""
    caller: str = ""
    caller_parent: str = ""
    sent: float = 0.0


def parse(traceparent: str) -> tuple[str, str] | None:
    """Return trace and span of a traceparent header, None if it is invalid."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return (match[1], match[2]) if match else None


def is_sampled(traceparent: str) -> bool:
    """Report whether the sender wants the trace to be kept; without a valid header, it does."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return match is None or bool(int(match[3], 16) & 1)


def traceparent(trace: str, span: str) -> str:
    return f"00-{trace}-{span}-01"


def begin() -> dict[str, str]:
    """Return the headers of a command from a command line: a new trace, or a child of the variable TRACEPARENT."""
    above = parse(os.environ.get("TRACEPARENT", ""))
    trace, parent = above or (trace_id(), "")
    return {TRACEPARENT: traceparent(trace, span_id()), CALLER: f"{CLI};{time.time()};{parent}"}


def cause(headers: Mapping[str, str]) -> Cause:
    """Return the sender that these headers of a command name. Malformed parts are omitted."""
    found = parse(headers.get(TRACEPARENT, ""))
    if not found:
        return Cause()
    caller, _, rest = headers.get(CALLER, "").partition(";")
    sent, _, parent = rest.partition(";")
    try:
        return Cause(*found, caller, parent, float(sent)) if caller == CLI else Cause(*found)
    except ValueError:
        return Cause(*found)
