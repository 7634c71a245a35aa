"""The table of the tests that took long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest

LONG = 5.0
"""Seconds of wall-clock."""


def table(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Return a line for each test that took longer than `LONG`, the longest first: total, setup, call and teardown."""
    times: defaultdict[str, dict[str, float]] = defaultdict(lambda: {"setup": 0.0, "call": 0.0, "teardown": 0.0})
    for report in reports:
        times[report.nodeid][report.when] += report.duration
    long = {test: steps for test, steps in times.items() if sum(steps.values()) > LONG}
    ordered = sorted(long.items(), key=lambda one: -sum(one[1].values()))
    head = [f"{'total':>7} {'setup':>7} {'call':>7} {'teardown':>8}  seconds"] if ordered else []
    return head + [
        f"{sum(steps.values()):7.1f} {steps['setup']:7.1f} {steps['call']:7.1f} {steps['teardown']:8.1f}  {test}"
        for test, steps in ordered
    ]
