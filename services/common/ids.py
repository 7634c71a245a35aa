"""Identifiers."""

from __future__ import annotations

import os
import time
import uuid


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562), which sorts by its creation time in milliseconds."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def trace_id() -> str:
    """Return a new W3C trace id: 32 hexadecimal digits."""
    return os.urandom(16).hex()


def span_id() -> str:
    """Return a new W3C span id: 16 hexadecimal digits."""
    return os.urandom(8).hex()
