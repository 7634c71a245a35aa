"""Calendar versions (calver.org), read by a format such as YYYY.0M.MICRO. Pure."""

from __future__ import annotations

import datetime
import re

from semver import Version

from services.common.errors import SettingsError
from services.deployer.registry import versions

TOKENS = {
    "YYYY": ("year", r"[1-9][0-9]{3}"),
    "0Y": ("year", r"[0-9]{2}|[1-9][0-9]{2}"),
    "YY": ("year", r"0|[1-9][0-9]{0,2}"),
    "0M": ("month", r"0[1-9]|1[0-2]"),
    "MM": ("month", r"[1-9]|1[0-2]"),
    "0W": ("week", r"0[1-9]|[1-4][0-9]|5[0-3]"),
    "WW": ("week", r"[1-9]|[1-4][0-9]|5[0-3]"),
    "0D": ("day", r"0[1-9]|[12][0-9]|3[01]"),
    "DD": ("day", r"[1-9]|[12][0-9]|3[01]"),
    "MICRO": ("micro", r"0|[1-9][0-9]*"),
}

_TOKEN = re.compile("(" + "|".join(TOKENS) + ")")


class CalVer:
    """A format. Tags that match it may have a leading "v", and a pre-release behind a dash."""

    def __init__(self, text: str) -> None:
        """Parse a format. Raises SettingsError, without the option, if it is not valid."""
        pieces = _TOKEN.split(text)
        _check(text, pieces[0::2], [TOKENS[token][0] for token in pieces[1::2]])
        pattern = "".join(_pattern(piece) for piece in pieces)
        self._pattern = re.compile(f"v?{pattern}(?:-(?P<pre>[0-9A-Za-z.-]+))?", re.ASCII)

    def parse(self, name: str) -> Version | None:
        """Return the version of the same precedence: the year, then month, week and day as one number, then micro.

        None for a tag that does not match, and for a day that no calendar has.
        """
        match = self._pattern.fullmatch(name)
        if not match:
            return None
        found = match.groupdict()
        year, month, week, day = (int(found.get(part) or 0) for part in ("year", "month", "week", "day"))
        if not _is_date(year, month, day):
            return None
        rank = f"{year}.{(month * 100 + week) * 100 + day}.{found.get('micro') or 0}"
        return versions.parse(f"{rank}-{found['pre']}" if found["pre"] else rank)


def _pattern(piece: str) -> str:
    if piece not in TOKENS:
        return re.escape(piece)
    name, pattern = TOKENS[piece]
    return f"(?P<{name}>{pattern})"


def _check(text: str, literals: list[str], parts: list[str]) -> None:
    known = ", ".join(TOKENS)
    if not parts:
        raise SettingsError(f"calver={text}: not a format; use {known} and what is between them")
    if unknown := re.search("[YMWD]+", "".join(literals)):
        raise SettingsError(f"calver={text}: {unknown[0]} is not known; use {known}")
    if twice := next((part for part in parts if parts.count(part) > 1), ""):
        raise SettingsError(f"calver={text}: names the {twice} twice")


def _is_date(year: int, month: int, day: int) -> bool:
    """Return True if a year has this day. Short years count from 2000; a day without a month may be any."""
    if not month or not day:
        return True
    try:
        datetime.date(year if year >= 1000 else 2000 + year, month, day)
    except ValueError:
        return False
    return True
