"""The limits of values on the wire: beyond them a value is damage or forgery, and no reader takes it.

The types of events and of the buckets' values carry the limits, so that decoding checks every value. The limits are
wider than any true value, so that no honest writer meets them.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, TypeAlias, get_type_hints

from msgspec import Meta

LARGEST = 1e10
"""Every duration, and every time (unix seconds), is smaller: as a time, this is in 2286."""

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
"""A configured pause between two rounds of a loop; above zero, so that the loop does not keep a processor busy."""

Name: TypeAlias = Annotated[str, Meta(max_length=1024)]
"""A name, which becomes a key or a label."""

Identity: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1024)]

Text: TypeAlias = Annotated[str, Meta(max_length=1 << 16)]
"""A text for people."""


def is_address(host: str) -> bool:
    """Report whether `host` is an IP address without a zone, which every process of the host reads alike."""
    try:
        return not getattr(ipaddress.ip_address(host), "scope_id", None)
    except ValueError:
        return False


def bare(kind: type) -> dict[str, Any]:
    """Return the types of a struct's fields without their limits."""
    return get_type_hints(kind)
