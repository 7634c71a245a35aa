"""Amounts with units: 7d, 90m, 8GiB."""

from __future__ import annotations

import re

from services.common.errors import SettingsError

_WORD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", 1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def duration(option: str, text: str) -> float:
    """Parse a duration into seconds. Raises SettingsError."""
    return _amount(option, text, _SECONDS, "a duration such as 7d, 12h, 90m or 30s")


def size(option: str, text: str) -> int:
    """Parse a size into bytes. Raises SettingsError."""
    return int(_amount(option, text, _BYTES, "a size such as 8GiB, 500MiB or 500MB"))


def _amount(option: str, text: str, units: dict[str, int], form: str) -> float:
    match = _WORD.fullmatch(text)
    if not match or match[2].lower() not in units:
        raise SettingsError(f"{option} {text!r}: use {form}")
    return float(match[1]) * units[match[2].lower()]
