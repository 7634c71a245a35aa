"""Version constraints: comparators such as >=1.2,<2, all of which must hold. Pure."""

from __future__ import annotations

import re

from semver import Version

from services.common.errors import SettingsError
from services.deployer.registry import versions
from services.deployer.registry.versions import Predicate

OPERATORS = (">=", ">", "<=", "<", "=", "!=", "~", "^")

_COMPARATOR = re.compile(r"(>=|<=|!=|>|<|=|~|\^)?\s*v?([0-9]{1,18}(?:\.[0-9]{1,18}){0,2})((?:-[0-9A-Za-z.-]+)?)")


def parse(text: str) -> Predicate:
    """Return the predicate of a constraint. Raises SettingsError, without the option, if it is not valid."""
    comparators = [_comparator(one.strip(), text) for one in text.split(",")]
    return lambda version: all(fits(version) for fits in comparators)


def _comparator(text: str, whole: str) -> Predicate:
    match = _COMPARATOR.fullmatch(text)
    numbers = match[2].split(".") if match else []
    lowest = versions.parse(".".join([*numbers, "0", "0"][:3]) + match[3]) if match else None
    if not match or not lowest or (match[3] and len(numbers) < 3):
        known = " ".join(OPERATORS)
        raise SettingsError(
            f"constraint={whole}: {text!r} is not a comparator; use {known} and a version, such as >=1.2,<2"
        )
    return _predicate(match[1] or "=", lowest, len(numbers))


def _predicate(operator: str, low: Version, given: int) -> Predicate:
    """Return the predicate of one comparator.

    `low` has zeros for the numbers that were not given: 1.2 stands for every 1.2.x, as in `=1.2` and `>1.2`.
    """
    above = _above(low, given)
    match operator:
        case ">=":
            return lambda version: version >= low
        case "<":
            return lambda version: version < _bound(low)
        case ">":
            return (lambda version: version > low) if given == 3 else (lambda version: version >= above)
        case "<=":
            return (lambda version: version <= low) if given == 3 else (lambda version: version < above)
        case "!=":
            return (lambda version: version != low) if given == 3 else (lambda version: not low <= version < above)
        case "~":
            high = _above(low, min(given, 2))
        case "^":
            high = _above(low, _significant(low, given))
        case _:
            return (lambda version: version == low) if given == 3 else (lambda version: low <= version < above)
    return lambda version: low <= version < high


def _bound(version: Version) -> Version:
    """Return an exclusive bound: `<2` excludes the pre-releases of 2.0.0 too, unless it names one itself."""
    return version if version.prerelease else version.replace(prerelease="0")


def _above(version: Version, given: int) -> Version:
    """Return the lowest version, pre-releases included, that does not start with this one's first `given` numbers."""
    numbers = [version.major, version.minor, version.patch][:given]
    major, minor, patch = [*numbers[:-1], numbers[-1] + 1, 0, 0][:3]
    return Version(major, minor, patch, prerelease="0")


def _significant(version: Version, given: int) -> int:
    """Return how many leading numbers ^ keeps: up to the first that is not zero, of those that were given."""
    first = next((n for n, number in enumerate((version.major, version.minor, version.patch)) if number), 2)
    return min(first + 1, given)
