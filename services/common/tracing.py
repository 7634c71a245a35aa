"""W3C Trace Context (level 1) on the way of a command: from who asks, through the bus, to who obeys."""

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
    """Who asked: a trace and a span of it; empty where nobody said.

    `caller` is "cli" for a command line, which nobody else tells of; it has the parent `caller_parent` and asked at
    `sent` (unix seconds).
    """

    trace: str = ""
    span: str = ""
    caller: str = ""
    caller_parent: str = ""
    sent: float = 0.0


def parse(traceparent: str) -> tuple[str, str] | None:
    """Trace and span of a traceparent header, None if it is not one."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return (match[1], match[2]) if match else None


def is_sampled(traceparent: str) -> bool:
    """Whether who asks wants the trace to be kept; also who does not say."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    return match is None or bool(int(match[3], 16) & 1)


def traceparent(trace: str, span: str) -> str:
    return f"00-{trace}-{span}-01"


def begin() -> dict[str, str]:
    """The headers of a command that a command line sends: the root of a trace, or of TRACEPARENT's span."""
    above = parse(os.environ.get("TRACEPARENT", ""))
    trace, parent = above or (trace_id(), "")
    return {TRACEPARENT: traceparent(trace, span_id()), CALLER: f"{CLI};{time.time()};{parent}"}


def cause(headers: Mapping[str, str]) -> Cause:
    """Who sent a command with these headers. What is malformed is left out."""
    found = parse(headers.get(TRACEPARENT, ""))
    if not found:
        return Cause()
    caller, _, rest = headers.get(CALLER, "").partition(";")
    sent, _, parent = rest.partition(";")
    try:
        return Cause(*found, caller, parent, float(sent)) if caller == CLI else Cause(*found)
    except ValueError:
        return Cause(*found)
