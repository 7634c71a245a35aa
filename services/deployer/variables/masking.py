"""Secrets in an output, masked. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

MASK = "***"

SHORTEST = 4
"""Characters of a value that is masked: a shorter one, such as `1`, is part of too many other words."""

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|auth|private|cookie|salt", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)(?=@)")


def secrets(variables: Iterable[tuple[str, str]]) -> set[str]:
    """Return the secrets in variables of an environment: the values of those whose name says so, passwords of URLs.

    Of a value with several lines, such as a private key, each line counts.
    """
    return {one for name, value in variables for one in _of(name, value) if len(one) >= SHORTEST}


def values(variables: Mapping[str, str], names: Collection[str]) -> set[str]:
    """Return the secrets in variables: those that `secrets` finds, and the values of the names, which are secrets."""
    own = (line.strip() for name in names for line in variables.get(name, "").splitlines())
    return secrets(variables.items()) | {line for line in own if len(line) >= SHORTEST}


def _of(name: str, value: str) -> Iterator[str]:
    if _SECRET_NAME.search(name):
        yield from (line.strip() for line in value.splitlines())
    for match in _URL_PASSWORD.finditer(value):
        yield match[2]


def mask(text: str, hidden: Collection[str]) -> str:
    """Return a text without these secrets and without the passwords of URLs."""
    for secret in sorted(hidden, key=len, reverse=True):  # a secret may be a part of another one
        text = text.replace(secret, MASK)
    return _URL_PASSWORD.sub(rf"\1:{MASK}", text)
