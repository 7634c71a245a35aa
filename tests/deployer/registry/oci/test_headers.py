"""Headers as registries write them, and as nobody should."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.registry.oci.headers import (
    LONGEST_PAUSE,
    Challenge,
    HeaderError,
    challenge,
    next_link,
    retry_after,
)

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
        (['Bearer realm="y" service="s"'], Challenge("bearer", "y", "s")),
        (["Bearer realm=https://a.example/t?x=1,service=s"], Challenge("bearer", "https://a.example/t?x=1", "s")),
        (['Negotiate abc==, Basic realm="x"'], Challenge("basic", "x")),
        (['Bearer realm="y'], Challenge("bearer", "y")),
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
        (["</list?last=1.0.0&n=2>;rel=next;title=x"], "/list?last=1.0.0&n=2"),
        (['/v2/app/tags/list?last=1.0.0&n=2; rel="next"'], "/v2/app/tags/list?last=1.0.0&n=2"),
        (["a ; rel = next , b; rel=prev"], "a"),
        (['<a>; rel="next"; rel="prev", '], "a"),
        (['<a>; rel="prev"; rel="next"'], ""),
        ([""], ""),
        ([" , "], ""),
        ([], ""),
    ],
)
def test_the_next_page_is_found(values: list[str], expected: str) -> None:
    assert next_link(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "<a; rel=next",
        "<a",
        "a> ; rel=next",
        "<a>",
        "/list",
        "<a> rel=next",
        "<a>; title=next",
        "<a>; rel",
        "<a>; rel=",
        '<a>; rel=""',
        '<a>; rel="next" <b>',
        '<a>; rel="prev", <b',
        '"<a>; rel=next"',
    ],
)
def test_a_link_that_cannot_be_read_does_not_pass_as_the_end(value: str) -> None:
    with pytest.raises(HeaderError):
        next_link([value])


# --- size ---

SHAPES = [
    "<",
    ">",
    '"',
    '\\"',
    "a",
    "a ",
    "a=",
    'a="',
    ";",
    "<>;",
    " ",
    ",",
    "\\",
    '="\\',
    "<a>;rel=b;",
    "<a>;rel=b,",
    '";"',
]
START: dict[object, str] = {challenge: "Bearer ", next_link: "<a>; rel=x;"}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("read", [challenge, next_link])
def test_the_time_to_read_a_header_grows_with_its_length_alone(
    read: Callable[[Sequence[str]], object], shape: str
) -> None:
    """Sixteen times the length: with the square it would be 256 times the time."""
    short, long = (_seconds(read, (START[read] + shape * length)[:length]) for length in (1024, 16 * 1024))
    assert long < 64 * max(short, 20e-6)


def _seconds(read: Callable[[Sequence[str]], object], value: str) -> float:
    """The least of several measurements, in CPU time of this thread: others on the machine change little of it."""
    taken = []
    for _ in range(7):
        began = time.thread_time()
        with contextlib.suppress(HeaderError):
            read([value])
        taken.append(time.thread_time() - began)
    return min(taken)


@pytest.mark.parametrize("read", [challenge, next_link])
def test_a_header_that_is_too_long_is_not_read(read: Callable[[Sequence[str]], object]) -> None:
    with pytest.raises(HeaderError, match="it has 16386 characters, more than 16384"):
        read(["<a>" * 2731, "<a>" * 2731])


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
        ("1" * 100_000, None),
    ],
)
def test_how_long_to_wait_is_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


@settings(deadline=None)
@given(st.lists(st.text()))
def test_no_header_is_too_strange_to_be_read(values: list[str]) -> None:
    challenge(values)
    with contextlib.suppress(HeaderError):
        next_link(values)
    for value in values:
        assert (retry_after({"retry-after": value}, NOW) or 0.0) <= LONGEST_PAUSE
