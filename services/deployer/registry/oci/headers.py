"""The HTTP headers of registries. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

LONGEST_PAUSE = 3600.0

MAX_HEADER = 16 * 1024
"""Characters of all values of a header together. A signed link to the next page has about two thousand."""

_MAX_DATE = 64

# Each expression is matched at one position, consumes all that it has read, and never backtracks (`*+`): the time to
# read a header grows with its length only. A quoted text without an end reaches to the end of the value.
_QUOTED = r'"((?:[^"\\]|\\.?)*+)"?'
_ITEM = re.compile(rf'([^\s,="]++)(?:\s*+=\s*+(?:{_QUOTED}|([^\s,"]*+)))?+|"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_TARGET = re.compile(r'[\s,]*+(?:<([^<>]*+)>|([^\s;,<>"]++))')
_PARAMETER = re.compile(rf'\s*+;\s*+([^\s;,="<>]*+)\s*+(?:=\s*+(?:{_QUOTED}|([^\s;,"]*+)))?+', re.DOTALL)
_END = re.compile(r"\s*+(?:,|\Z)")
_NOTHING = re.compile(r"[\s,]*+\Z")


class HeaderError(ValueError):
    """A header without a clear meaning; the text says why."""


class Challenge(msgspec.Struct, frozen=True):
    """The authorization that a registry asks for: scheme "basic", or "bearer" with the realm that gives tokens."""

    scheme: str
    realm: str = ""
    service: str = ""


def challenge(values: Sequence[str]) -> Challenge | None:
    """Read WWW-Authenticate headers (RFC 9110): bearer before basic, None without either. Raises HeaderError."""
    _check_length(values)
    found = [one for value in values for one in _challenges(value) if one.scheme in ("basic", "bearer")]
    return max(found, key=lambda one: one.scheme, default=None)


def next_link(values: Sequence[str]) -> str:
    """Find the target with the relation "next" in Link headers (RFC 8288); empty when they name none.

    Raises HeaderError for every value that is not a list of links, each with a relation: it may be the one to the next
    page. A target may lack its angle brackets, as some registries write it.
    """
    _check_length(values)
    links = [link for value in values for link in _links(value)]
    return next((target for target, relations in links if "next" in relations), "")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds of a Retry-After header, an hour at most; None without a valid one."""
    value = headers.get("retry-after", "").strip()
    if len(value) > _MAX_DATE:
        return None
    if re.fullmatch(r"[0-9]{1,15}", value):
        return min(float(value), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _check_length(values: Sequence[str]) -> None:
    if (length := sum(map(len, values))) > MAX_HEADER:
        raise HeaderError(f"it has {length} characters, more than {MAX_HEADER}")


def _challenges(value: str) -> list[Challenge]:
    """Return the schemes of a value, each with the parameters up to the next one."""
    found: list[tuple[str, dict[str, str]]] = []
    for item in _ITEM.finditer(value):
        name, quoted, bare = item.groups()
        if name and quoted is None and bare is None:
            found.append((name.lower(), {}))
        elif name and found:
            found[-1][1].setdefault(name.lower(), _text(quoted, bare))
    return [Challenge(scheme, given.get("realm", ""), given.get("service", "")) for scheme, given in found]


def _links(value: str) -> list[tuple[str, list[str]]]:
    """Return the links of a value: each target, and its relations in lower case."""
    found: list[tuple[str, list[str]]] = []
    place = 0
    while not _NOTHING.match(value, place):
        target, relations, place = _link(value, place)
        found.append((target, relations))
    return found


def _link(value: str, place: int) -> tuple[str, list[str], int]:
    """Return the link that starts at a position of a value, and the position after it."""
    target = _TARGET.match(value, place)
    if not target:
        raise HeaderError("it is not <URL>; rel=…")
    place = target.end()
    relations: list[str] | None = None
    while parameter := _PARAMETER.match(value, place):
        place = parameter.end()
        name, quoted, bare = parameter.groups()
        # The first one counts (RFC 8288, section 3.3).
        if name.lower() == "rel" and relations is None:
            relations = _text(quoted, bare).lower().split()
    end = _END.match(value, place)
    if not end or not relations:
        raise HeaderError("it is not <URL>; rel=…")
    return target[1] or target[2] or "", relations, end.end()


def _text(quoted: str | None, bare: str | None) -> str:
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if quoted is not None else bare or ""
