"""How long a registry that fails is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.registry.backoff import JITTER, pause

chances = st.floats(0, 1)
seconds = st.floats(0.1, 1e4)


@pytest.mark.parametrize(
    ("failures", "expected"), [(0, 10), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (9999, 300)]
)
def test_each_failure_after_the_first_doubles_the_interval_up_to_the_longest(failures: int, expected: float) -> None:
    assert pause(10, 300, failures, 0.5) == pytest.approx(expected)


@settings(deadline=None)
@given(seconds, seconds, st.integers(0, 10_000), chances)
def test_no_pause_is_shorter_than_the_interval_or_longer_than_the_longest_but_for_the_jitter(
    interval: float, longest: float, failures: int, chance: float
) -> None:
    found = pause(interval, longest, failures, chance)
    assert interval * (1 - JITTER) * 0.999 <= found <= max(interval, longest) * (1 + JITTER) * 1.001


@settings(deadline=None)
@given(seconds, st.integers(0, 10_000), chances, st.floats(0, 1e6))
def test_what_the_registry_asks_for_is_obeyed(
    interval: float, failures: int, chance: float, retry_after: float
) -> None:
    assert pause(interval, 300, failures, chance, retry_after) >= retry_after


@settings(deadline=None)
@given(chances)
def test_a_failure_does_not_make_hosts_march_in_step(chance: float) -> None:
    assert pause(10, 300, 9, chance) == pytest.approx(300 * (1 + JITTER * (2 * chance - 1)))
    assert pause(10, 300, 9, chance, 1000) == pytest.approx(1000 * (1 + JITTER * chance))
