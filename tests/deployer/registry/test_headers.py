"""Headers as registries write them, and as nobody should."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.registry.oci.headers import LONGEST_PAUSE, Challenge, challenge, next_link, retry_after

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            ['Bearer realm="https://a.example/token",service="a service",scope="repository:x:pull"'],
            Challenge("bearer", "https://a.example/token", "a service"),
        ),
        (["bearer realm=https://a.example/t"], Challenge("bearer", "https://a.example/t")),
        (['Bearer service="s" , realm="r\\"q"'], Challenge("bearer", 'r"q', "s")),
        (['Basic realm="x", Bearer realm="y"'], Challenge("bearer", "y")),
        (['Bearer realm="y",service="s", Basic realm="x"'], Challenge("bearer", "y", "s")),
        (['Basic realm="x"', 'Bearer realm="y"'], Challenge("bearer", "y")),
        (['Basic realm="say Bearer, Bearer realm=1"'], Challenge("basic", "say Bearer, Bearer realm=1")),
        (["Basic"], Challenge("basic")),
        (["Bearer"], Challenge("bearer")),
        (["Negotiate", 'Digest realm="x"'], None),
        (["BasicX realm=1"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_challenge_is_read(values: list[str], expected: Challenge | None) -> None:
    assert challenge(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['</v2/x/tags/list?last=a&n=2>; rel="next"'], "/v2/x/tags/list?last=a&n=2"),
        (["<a>; rel=next"], "a"),
        (["<a>;REL=NEXT"], "a"),
        (['<a,b;c>; title="x"; rel="last next"'], "a,b;c"),
        (['<a>; rel="prev", <b>; rel="next"'], "b"),
        (['<a>; rel="prev"', "<b>; rel=next"], "b"),
        (['<a>; rel="nextone"'], ""),
        (['<a>; rel="prev"'], ""),
        (["a; rel=next"], ""),
        (["<a; rel=next"], ""),
        ([""], ""),
        ([], ""),
    ],
)
def test_the_next_page_is_found(values: list[str], expected: str) -> None:
    assert next_link(values) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("99999999999", LONGEST_PAUSE),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 12:00:00 GMT", LONGEST_PAUSE),
        ("-5", None),
        ("1.5", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_how_long_to_wait_is_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


@settings(deadline=None)
@given(st.lists(st.text()))
def test_no_header_is_too_strange_to_be_read(values: list[str]) -> None:
    challenge(values)
    next_link(values)
    for value in values:
        assert (retry_after({"retry-after": value}, NOW) or 0.0) <= LONGEST_PAUSE
