"""A span as plain data. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

Kind = Literal["internal", "server", "client"]
Attribute: TypeAlias = str | int | float | bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Ids are hexadecimal, as in W3C Trace Context; times are unix seconds; an `error` says why it failed.

    `position`: the message of the log with which it was over, 0 for one that is in no log.
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
    """Whether it is the id of a trace."""
    return bool(_TRACE.fullmatch(text))


def known_span(text: str) -> str:
    """The text if it is the id of a span, else empty."""
    return text if _SPAN.fullmatch(text) else ""


def span_id(trace: str, *what: object) -> str:
    """The id of the part of a trace that these words tell from all others."""
    return sha256("\0".join([trace, *map(str, what)]).encode()).hexdigest()[:16]
