"""The generated pages are those of the code as it is."""

from __future__ import annotations

from pathlib import Path

from services.cli.reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text() == markdown(), "run `make docs`"
