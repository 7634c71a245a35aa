"""Release names as versions: by default Semantic Versioning 2.0.0 with an optional leading "v". Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from semver import Version

Parse: TypeAlias = Callable[[str], Version | None]
"""The version that a name stands for, None if it is not one."""

Predicate: TypeAlias = Callable[[Version], bool]
"""True for a version that is wanted."""


def parse(name: str) -> Version | None:
    """Return the version that a name stands for, None if it is not one."""
    text = name.removeprefix("v")
    try:
        version = Version.parse(text)
    except ValueError:
        return None
    return version if str(version) == text else None


def newest_first(
    names: Iterable[str], pre_releases: bool = False, parse: Parse = parse, wanted: Predicate | None = None
) -> list[str]:
    """Return the names that are versions, highest precedence first (semver.org, item 11); each is parsed once.

    Names of equal precedence (build metadata, a leading "v") are ordered by their text, so that every look at the
    same names gives the same answer.
    """
    found = [(version, name) for name in names if (version := parse(name))]
    kept = [
        (_precedence(version), name)
        for version, name in found
        if (pre_releases or not version.prerelease) and (wanted is None or wanted(version))
    ]
    return [name for _, name in sorted(kept, reverse=True)]


def is_newer(name: str, than: str, parse: Parse = parse) -> bool:
    """Return True if a version has a higher precedence than another; a name that is no version is older than any."""
    this, other = parse(name), parse(than)
    return this is not None and (other is None or this > other)


def _precedence(version: Version) -> tuple[object, ...]:
    """Return a key that sorts as the versions do: a comparison of the library's own parses both again."""
    parts = (version.prerelease or "").split(".")
    rank = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)
    return version.major, version.minor, version.patch, not version.prerelease, rank
