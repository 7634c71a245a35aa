"""Thresholds: when probes become a verdict."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.routing import Check
from services.health.thresholds import STARTING_INTERVAL, Tally, observe, pause

checks = st.builds(Check, rise=st.integers(1, 5), fall=st.integers(1, 5))
probes = st.lists(st.booleans(), max_size=40)


def tally_of(results: list[bool], check: Check, start: Tally | None = None) -> Tally:
    return reduce(lambda tally, passed: observe(tally, passed, check), results, start or Tally())


def trailing(results: list[bool], value: bool) -> int:
    return next((n for n, passed in enumerate(reversed(results)) if passed is not value), len(results))


def verdict_by_definition(results: list[bool], check: Check, proven: bool) -> bool | None:
    """The verdict after `results`, found by looking back for the last run that was long enough."""
    verdict = None
    for end in range(1, len(results) + 1):
        so_far = results[:end]
        if trailing(so_far, True) >= check.rise:
            verdict, proven = True, True
        elif proven and trailing(so_far, False) >= check.fall:
            verdict = False
    return verdict


@given(probes, checks, st.booleans())
def test_the_verdict_is_the_last_run_that_was_long_enough(results: list[bool], check: Check, proven: bool) -> None:
    assert tally_of(results, check, Tally(proven=proven)).verdict == verdict_by_definition(results, check, proven)


@given(st.integers(0, 50), checks)
def test_a_replica_that_never_passed_stays_unknown_however_often_it_fails(failures: int, check: Check) -> None:
    assert tally_of([False] * failures, check).verdict is None


@given(probes, checks)
def test_a_verdict_is_never_taken_back_to_unknown(results: list[bool], check: Check) -> None:
    seen = [tally_of(results[:end], check).verdict for end in range(len(results) + 1)]
    first = next((n for n, verdict in enumerate(seen) if verdict is not None), len(seen))
    assert None not in seen[first:]


@given(probes, checks)
def test_fewer_failures_than_fall_after_a_pass_change_nothing(results: list[bool], check: Check) -> None:
    healthy = tally_of(results + [True] * check.rise, check)
    assert healthy.verdict is True
    assert tally_of([False] * (check.fall - 1), check, healthy).verdict is True
    assert tally_of([False] * check.fall, check, healthy).verdict is False


def test_one_probe_decides_with_rise_and_fall_of_one() -> None:
    check = Check(rise=1, fall=1)
    assert [tally_of([True, False, True][:n], check).verdict for n in (1, 2, 3)] == [True, False, True]


@given(st.floats(0.05, 3600), st.floats(0, 1))
def test_probes_of_a_proven_replica_are_one_interval_apart_within_ten_percent(interval: float, chance: float) -> None:
    seconds = pause(Tally(proven=True), Check(interval=interval), chance)
    assert 0.9 * interval <= seconds * (1 + 1e-9)
    assert seconds <= 1.1 * interval * (1 + 1e-9)


@given(st.floats(0.05, 3600), st.floats(0, 1))
def test_a_starting_replica_is_probed_faster_but_never_slower(interval: float, chance: float) -> None:
    assert pause(Tally(), Check(interval=interval), chance) <= min(interval, STARTING_INTERVAL) * 1.1 * (1 + 1e-9)


@pytest.mark.parametrize("interval", [0.0, -1.0])
def test_no_interval_makes_a_busy_loop(interval: float) -> None:
    assert pause(Tally(proven=True), Check(interval=interval), 0.0) > 0.04
