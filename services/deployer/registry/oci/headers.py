"""What registries say in HTTP headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

LONGEST_PAUSE = 3600.0

_LINK = re.compile(r"<([^>]*)>([^<]*)")
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\b)', re.IGNORECASE)
_SCHEME = re.compile(r"(?:^|,)\s*(Basic|Bearer)(?=\s|,|$)", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Challenge(msgspec.Struct, frozen=True):
    """How a registry wants to be asked: scheme "basic", or "bearer" with where tokens are."""

    scheme: str
    realm: str = ""
    service: str = ""


def challenge(values: Sequence[str]) -> Challenge | None:
    """The challenge of WWW-Authenticate headers (RFC 9110): bearer before basic, None without either."""
    found = [one for value in values for one in _challenges(value)]
    return max(found, key=lambda one: one.scheme, default=None)


def next_link(values: Sequence[str]) -> str:
    """The target of the Link header (RFC 8288) with the relation "next"; empty without one."""
    links = [link for value in values for link in _LINK.findall(value)]
    return next((target for target, parameters in links if _NEXT.search(parameters)), "")


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait, an hour at most; None without one that makes sense."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,15}", value):
        return min(float(value), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _challenges(value: str) -> list[Challenge]:
    # Quoted text may hold anything, a scheme's name included: it is blanked while the schemes are looked for.
    blanked = re.sub(r'"(?:[^"\\]|\\.)*"', lambda quoted: '"' * len(quoted[0]), value)
    schemes = list(_SCHEME.finditer(blanked))
    ends = [scheme.start() for scheme in schemes[1:]] + [len(value)]
    return [_challenge(scheme[1].lower(), value[scheme.end() : ends[n]]) for n, scheme in enumerate(schemes)]


def _challenge(scheme: str, parameters: str) -> Challenge:
    found = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in _PARAMETER.findall(parameters)
    }
    return Challenge(scheme, found.get("realm", ""), found.get("service", ""))
