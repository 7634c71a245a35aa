"""A span as plain data. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

Kind = Literal["internal", "server", "client"]
Attribute: TypeAlias = str | int | float | bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Ids are hexadecimal, as in W3C Trace Context; times are unix seconds; an `error` says why it failed."""

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


def span_id(trace: str, *what: object) -> str:
    """The id of the part of a trace that these words tell from all others."""
    return sha256("\0".join([trace, *map(str, what)]).encode()).hexdigest()[:16]
