"""Tables and notes at any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.text.columns import duration, note, plain, table


def test_without_a_width_nothing_is_cut_and_no_line_ends_with_blanks() -> None:
    assert table(["A", "LONG"], [("x" * 200, ""), ("y", "z")]) == [
        "A" + " " * 201 + "LONG",
        "x" * 200,
        "y" + " " * 201 + "z",
    ]


def test_the_widest_column_is_cut_and_kept_ones_last() -> None:
    rows = [("a" * 20, "b" * 30, "c" * 20)]
    assert table(["A", "B", "C"], rows, 50, kept=("C",))[1] == f"{'a' * 12}…  {'b' * 12}…  {'c' * 20}"
    assert table(["A", "B", "C"], rows, 30, kept=("C",))[1] == f"{'a' * 5}…  {'b' * 5}…  {'c' * 13}…"


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4), st.integers(22, 120))
def test_every_table_fits_when_its_headings_do(rows: list[tuple[str, str, str]], width: int) -> None:
    shown = table(["FIRST", "SECOND", "THIRD"], rows, width)
    assert len(shown) == len(rows) + 1
    assert max(map(len, shown)) <= width
    assert all(line.isprintable() for line in shown)


def test_a_terminal_gets_no_control_characters() -> None:
    assert plain("a\x1b[2Jb\nc\td") == "a?[2Jb c d"


def test_a_note_goes_on_below_its_beginning() -> None:
    assert note("paused", "one two three", 24) == ["  paused      one two", "              three"]
    assert note("paused", "", 24) == ["  paused"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days"), (1e6, "11 days")],
)
def test_a_duration_has_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
