"""Texts that users and other programs write."""

from __future__ import annotations


def lines(text: str) -> list[str]:
    r"""Return the lines of a text, which end with \n or \r\n and with nothing else.

    `str.splitlines` knows eleven line ends, such as a form feed or U+2028, and would cut a value at each.
    """
    found = [line.removesuffix("\r") for line in text.split("\n")]
    return found if found[-1] else found[:-1]
