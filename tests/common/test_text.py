"""Lists in messages for people."""

from __future__ import annotations

import pytest

from services.common.text import first_few


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more")],
)
def test_a_long_list_names_five_and_counts_the_rest(count: int, expected: str) -> None:
    assert first_few([str(number) for number in range(count)]) == expected
