"""What a user writes wrong is one line that says what, where, and what to do."""

from __future__ import annotations

import pytest

from services.common.errors import SettingsError
from services.replay import buckets
from services.replay.log.log_range import parse_duration, parse_position, parse_range


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latency"], "--buckets 'latency': write METRIC=BOUND,BOUND,… in seconds"),
        (["no.such=1"], "--buckets no.such: no histogram has this name; there are dewy."),
        (["dewy.proxy.connections.total=1"], "no histogram has this name"),
        (["dewy.proxy.connect.latency=1,x"], "each bound is a number of seconds"),
        (["dewy.proxy.connect.latency="], "each bound is a number of seconds"),
        (["dewy.proxy.connect.latency=2,1"], "put the bounds in rising order, each once"),
        (["dewy.proxy.connect.latency=1,1"], "put the bounds in rising order, each once"),
        (["dewy.proxy.connect.latency=1,inf"], "each bound is a finite number"),
        (["dewy.proxy.connect.latency=nan"], "each bound is a finite number"),
    ],
)
def test_wrong_buckets_are_told(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        buckets.parse(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["dewy.proxy.connect.latency", "dewy_proxy_connect_latency_seconds", "dewy_proxy_connect_latency"]
)
def test_a_histogram_is_known_by_each_of_its_names(name: str) -> None:
    assert buckets.parse([f"{name}=0.0001,0.001"]) == {"dewy.proxy.connect.latency": (0.0001, 0.001)}


@pytest.mark.parametrize(
    "text", ["yesterday", "", "@-1e300", "@1e15", "@", "@inf", "@nan", "12:00", "1.5", "-3", "2026-13-01", "٣"]
)
def test_a_time_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="use a sequence"):
        parse_position("--until", text)


@pytest.mark.parametrize("text", ["0s", "15", "15x", "-1s", "", "s", "0.0001s", "9" * 20])
def test_a_duration_is_told_when_it_is_none(text: str) -> None:
    if text == "15":
        assert parse_duration("--every", text) == 15
        return
    with pytest.raises(SettingsError, match="use a duration such as"):
        parse_duration("--every", text)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("15s", 15), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_duration("--every", text) == seconds


@pytest.mark.parametrize(("first", "last"), [("9", "8"), ("@9", "@8.5"), ("2026-01-02", "2026-01-01")])
def test_a_span_that_ends_before_it_begins_is_told(first: str, last: str) -> None:
    with pytest.raises(SettingsError, match=f"--from {first} is after --until {last}: swap them"):
        parse_range(first, last)
