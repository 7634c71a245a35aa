"""What a value that travels can be at all: beyond these limits it is damage or forgery, and no reader takes it.

The types of events and of the buckets' values carry them, so that whoever decodes has checked everything. They are
wider than anything that is true, so that no honest writer ever meets them.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, TypeAlias, get_type_hints

from msgspec import Meta

LARGEST = 1e10
"""No duration, and no time (unix seconds), is as large: that is in 2286."""

_MOST = 2**53
"""Whole numbers up to here are exact as floats too, which is what metrics are read as."""

Port: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=_MOST)]
Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=_MOST)]

Number: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""An exit status, or the place of a replica: it may be below zero."""

Seconds: TypeAlias = Annotated[float, Meta(gt=-LARGEST, lt=LARGEST)]
"""A duration, or a time. A duration is below zero when a clock was set back meanwhile."""

Interval: TypeAlias = Annotated[float, Meta(ge=0.001, lt=LARGEST)]
"""A duration that somebody has set, after which something is done again: none would keep a processor busy."""

Name: TypeAlias = Annotated[str, Meta(max_length=1024)]
"""What names something, and becomes a key or a label."""

Identity: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1024)]

Text: TypeAlias = Annotated[str, Meta(max_length=1 << 16)]
"""What is said to people."""


def is_address(host: str) -> bool:
    """Whether it is an IP address that every process of the host takes for the same: no name, and no zone."""
    try:
        return not getattr(ipaddress.ip_address(host), "scope_id", None)
    except ValueError:
        return False


def bare(kind: type) -> dict[str, Any]:
    """The types of a struct's fields without their limits."""
    return get_type_hints(kind)
