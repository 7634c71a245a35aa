"""Which replicas a reader gets."""

from __future__ import annotations

import math

import pytest

from services.common.errors import LongshoreError
from services.deployer.output.choice import choose
from services.deployer.runtime.entry import Kept

KEPT = [
    Kept("a0", 0, 1.0, 10.0),
    Kept("a1", 1, 2.0, 11.0),
    Kept("b0", 0, 10.5, 20.0),
    Kept("c0", 0, 20.5, math.inf),
    Kept("b1", 1, 21.0, math.inf),
]


@pytest.mark.parametrize(
    ("names", "previous", "chosen"),
    [
        ([], False, ["c0", "b1"]),
        (["a0", "b1"], False, ["a0", "b1"]),
        ([], True, ["b0", "a1"]),
        (["c0"], True, ["b0"]),
        (["b0", "b1"], True, ["a0", "a1"]),
    ],
)
def test_without_names_all_that_run_are_read_and_previous_means_the_same_slot(
    names: list[str], previous: bool, chosen: list[str]
) -> None:
    assert choose(KEPT, names, previous) == chosen


@pytest.mark.parametrize(
    ("kept", "names", "previous", "problem"),
    [
        (KEPT, ["x"], False, r"replica 'x' is not kept here; it is of b1, c0, b0, a1, a0$"),
        ([], ["x"], False, "it is of none$"),
        ([], [], False, "no replica has run here so far"),
        (KEPT[:2], [], False, "no replica runs; ended: a1, a0; use --previous"),
        (KEPT, ["a0"], True, "no output is kept of a replica before a0"),
        (KEPT[3:], [], True, "no replica has ended so far"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    kept: list[Kept], names: list[str], previous: bool, problem: str
) -> None:
    with pytest.raises(LongshoreError, match=problem):
        choose(kept, names, previous)
