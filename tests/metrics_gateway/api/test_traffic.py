"""Rates and quantiles between samples of the totals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics_gateway.state.histogram import CONNECT_LATENCY
from services.metrics_gateway.state.state import State
from services.metrics_gateway.views.traffic import HISTORY, PortTraffic, Traffic, quantile
from tests.metrics_gateway.events import KEY, Log, accepted, established


def test_rates_are_what_the_totals_grew_by_each_second() -> None:
    log, traffic = Log(), Traffic()
    log.say("p", accepted(0))
    for moment in range(20):
        traffic.sample(log.state, 100.0 + 2 * moment)
        log.say("p", *(accepted(100 * moment + n) for n in range(10)))
    found = traffic.of(KEY, CONNECT_LATENCY)
    assert (found.connections_per_second, found.errors_per_second) == (5.0, 0.0)
    assert found.history == [5.0] * 19


def test_the_history_is_bounded_and_calm_when_nothing_goes_on() -> None:
    log, traffic = Log(), Traffic()
    log.say("p", accepted(0))
    for moment in range(3 * HISTORY):
        traffic.sample(log.state, 2.0 * moment)
    assert traffic.of(KEY, CONNECT_LATENCY) == PortTraffic(history=[0.0] * HISTORY)


def test_before_two_samples_nothing_is_said() -> None:
    log, traffic = Log(), Traffic()
    assert traffic.of(KEY, CONNECT_LATENCY) == PortTraffic()
    log.say("p", accepted(0))
    traffic.sample(log.state, 1.0)
    assert traffic.of(KEY, CONNECT_LATENCY) == PortTraffic()
    traffic.sample(State(), 2.0)
    assert traffic.of(KEY, CONNECT_LATENCY) == PortTraffic()


def test_latencies_are_those_between_the_samples() -> None:
    log, traffic = Log(), Traffic()
    log.say("p", *(established(n, 4.0) for n in range(50)))
    traffic.sample(log.state, 0.0)
    log.say("p", *(established(n, 0.007) for n in range(98)), *(established(n, 0.2) for n in range(2)))
    traffic.sample(log.state, 2.0)
    found = traffic.of(KEY, CONNECT_LATENCY)
    assert found.latency_p50
    assert found.latency_p99
    assert 0.005 < found.latency_p50 < 0.01
    assert 0.1 < found.latency_p99 <= 0.25


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0], 0.5, None),
        ([4, 0, 0], 0.5, 0.5),
        ([0, 4, 0], 0.5, 1.5),
        ([1, 1, 2], 0.99, 2.0),
        ([2, 2, 0], 0.5, 1.0),
    ],
)
def test_quantiles_are_drawn_as_prometheus_does(counts: list[int], share: float, value: float | None) -> None:
    assert quantile((1.0, 2.0), counts, share) == value


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_never_gives_a_smaller_value(counts: list[int], one: float, other: float) -> None:
    lower, upper = (quantile((1.0, 2.0), counts, share) for share in sorted((one, other)))
    assert (lower is None) == (upper is None) == (sum(counts) == 0)
    assert (lower or 0) <= (upper or 0) <= 2.0
