"""The choices of a client of /metrics, by RFC 9110: text format and compression. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Form = Literal["openmetrics", "text"]

OPENMETRICS = ("application", "openmetrics-text")
TEXT = ("text", "plain")
_GZIP = ("gzip", "x-gzip")


class Choice(msgspec.Struct, frozen=True):
    """One element of an Accept header or the like, in lower case, with its weight from 0 to 1."""

    name: str
    weight: float


def form(accept: str) -> Form:
    """Return OpenMetrics if the client names it and does not prefer text; else text.

    The requested version does not matter: there is one of each, and the answer names it. A client that accepts neither
    gets text: that is more useful than an error.
    """
    given = list(choices(accept))
    openmetrics = _weight(given, OPENMETRICS)
    is_named = any(one.name == "/".join(OPENMETRICS) for one in given)
    return "openmetrics" if is_named and openmetrics and openmetrics >= _weight(given, TEXT) else "text"


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether gzip has a weight above 0, by name or as one of all encodings."""
    given = {one.name: one.weight for one in choices(accept_encoding)}
    named = [given[name] for name in _GZIP if name in given]
    return max(named) > 0 if named else given.get("*", 0.0) > 0


def choices(header: str) -> Iterator[Choice]:
    """Yield the elements of a header. One whose weight is not a number from 0 to 1 is skipped."""
    for element in _split(header, ","):
        name, *parameters = [part.strip() for part in _split(element, ";")]
        weights = [
            value for key, _, value in (part.partition("=") for part in parameters) if key.strip().lower() == "q"
        ]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            continue
        if name and 0.0 <= weight <= 1.0:
            yield Choice(name.lower(), weight)


def _weight(given: list[Choice], kind: tuple[str, str]) -> float:
    """Return the weight of a media type: that of the most specific range that contains it, 0 without one.

    Of ranges that differ in their parameters, such as versions, the highest weight counts.
    """
    for name in ("/".join(kind), f"{kind[0]}/*", "*/*"):
        weights = [one.weight for one in given if one.name == name]
        if weights:
            return max(weights)
    return 0.0


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts between separators that are not in a quoted string."""
    part, is_quoted, is_escaped = "", False, False
    for character in text:
        if is_quoted:
            is_escaped, is_quoted = character == "\\" and not is_escaped, character != '"' or is_escaped
        elif character == '"':
            is_quoted = True
        if character == separator and not is_quoted:
            yield part
            part = ""
        else:
            part += character
    yield part
