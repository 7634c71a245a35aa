"""Texts that users and other programs write."""

from __future__ import annotations

from collections.abc import Sequence

_FEW = 5


def lines(text: str) -> list[str]:
    r"""Return the lines of a text, which end with \n or \r\n and with nothing else.

    `str.splitlines` knows eleven line ends, such as a form feed or U+2028, and would cut a value at each.
    """
    found = [line.removesuffix("\r") for line in text.split("\n")]
    return found if found[-1] else found[:-1]


def first_few(items: Sequence[str]) -> str:
    """Join the first items, and say how many more there are: `a, b, c, d, e and 3 more`. Empty if there are none."""
    shown = ", ".join(items[:_FEW])
    return f"{shown} and {len(items) - _FEW} more" if len(items) > _FEW else shown


def printable(line: str) -> str:
    """Return a line without characters that control a terminal."""
    text = line.expandtabs().rstrip()
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def last_line(text: str) -> str:
    """Return the last line of a text, empty if there is none."""
    return text.rpartition("\n")[2]
