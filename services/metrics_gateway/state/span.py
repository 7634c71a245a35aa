"""A span as plain data. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

Kind = Literal["internal", "server", "client"]
Attribute: TypeAlias = str | int | float | bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span. Ids are hexadecimal, as in W3C Trace Context; times are unix seconds; `error` is the reason of a failure.

    `position` is the message of the log that ended it, 0 for a span that is in no log.
    """

    trace: str
    id: str
    name: str
    start: float
    end: float
    parent: str = ""
    kind: Kind = "internal"
    attributes: dict[str, Attribute] = {}
    error: str = ""
    links: list[tuple[str, str]] = []
    position: int = 0


_TRACE = re.compile("[0-9a-f]{32}")
_SPAN = re.compile("[0-9a-f]{16}")


def is_trace(text: str) -> bool:
    """Return whether the text is a trace id."""
    return bool(_TRACE.fullmatch(text))


def known_span(text: str) -> str:
    """Return the text if it is a span id, else an empty one."""
    return text if _SPAN.fullmatch(text) else ""


def span_id(trace: str, *what: object) -> str:
    """Return the id of a part of a trace; `what` distinguishes the part from all others."""
    return sha256("\0".join([trace, *map(str, what)]).encode()).hexdigest()[:16]
