"""Text in columns, for a terminal of any width. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

GAP = "  "
NARROWEST = 6
"""Characters that a column keeps at least when its table is too wide; a longer heading stays whole, too."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None, kept: Sequence[str] = ()
) -> list[str]:
    """Return rows under headings. Where they are wider than `width`, the widest columns are cut, with an ellipsis.

    Columns that are `kept` are cut last. Without a width none is.
    """
    lines = [list(columns), *([plain(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    if width is not None:
        least = [max(NARROWEST, len(name)) for name in columns]
        widths = _fitted(widths, least, [name in kept for name in columns], width)
    return [
        GAP.join(_cut(value, size).ljust(size) for value, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def note(title: str, text: str, width: int | None, indent: int = 2) -> list[str]:
    """Return a text behind its title; its further lines begin where the first one does."""
    begin = " " * indent + title.ljust(12)
    if width is None:
        return [f"{begin}{plain(text)}".rstrip()]
    return textwrap.wrap(
        plain(text), width, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False
    ) or [begin.rstrip()]


def plain(text: str) -> str:
    """Return a text as one line that a terminal shows as it is: control characters become question marks."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "?" for one in text)


def duration(seconds: float) -> str:
    """Return a duration in its largest unit: 12 s, 3 min, 5 h, 2 days."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds / size))} {unit}"
    return f"{int(seconds / 86_400)} days"


def _fitted(widths: list[int], least: list[int], are_kept: list[bool], width: int) -> list[int]:
    """Return widths that fit, as far as possible: each step takes a character from the widest column.

    Columns that are kept give theirs last: a line that a terminal breaks is worse than a value that is cut.
    """
    found = list(widths)
    excess = sum(found) + len(GAP) * (len(found) - 1) - width
    for turn in (False, True):
        at_turn = [at for at, is_kept in enumerate(are_kept) if is_kept == turn]
        while excess > 0 and (cuttable := [at for at in at_turn if found[at] > least[at]]):
            found[max(cuttable, key=lambda at: found[at])] -= 1
            excess -= 1
    return found


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
