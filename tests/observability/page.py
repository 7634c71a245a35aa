"""A page of the documents as its parts: headings, and fenced blocks that say how they are checked."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """A sample; `kind` is what stands behind its three ticks: the language, and how it is checked."""

    kind: str
    text: str
    number: int

    @property
    def code(self) -> str:
        """Without its comments, which may be in another language."""
        lines = (re.sub(r"(^|\s)# .*$", "", line).rstrip() for line in self.text.splitlines())
        return "\n".join(line for line in lines if line)

    @property
    def commands(self) -> list[str]:
        """The commands of a shell sample, each on one line."""
        return self.code.replace("\\\n", " ").splitlines()


def blocks(page: str) -> list[Block]:
    return [Block(kind, text, number) for number, (kind, text) in enumerate(_FENCE.findall(page))]


def headings(page: str) -> list[str]:
    return re.findall(r"^(#+ .*)$", _FENCE.sub("", page), re.MULTILINE)


def table_rows(page: str) -> list[str]:
    """The rows of all tables, with the code in them and nothing else."""
    rows = re.findall(r"^\|(?!-)(.*)\|$", _FENCE.sub("", page), re.MULTILINE)
    return [" ".join(sorted(re.findall(r"`[^`]+`", row))) for row in rows]


def anchors(page: str) -> set[str]:
    """What a link may lead to, as GitHub names it."""
    titles = (heading.lstrip("# ").lower() for heading in headings(page))
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """The targets of links that are no addresses."""
    return re.findall(r"\]\((?!https?:)([^)]+)\)", _FENCE.sub("", page))
