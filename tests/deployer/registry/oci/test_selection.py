"""Which tag is the newest: semantic versions, constraints, calendar versions, digests."""

from __future__ import annotations

import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semver import Version

from services.common.errors import SettingsError
from services.deployer.registry import versions
from services.deployer.registry.oci import constraint, source
from services.deployer.registry.oci.calver import CalVer

ORDERED = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
ORDERED += ["1.0.0-rc.1", "1.0.0", "1.0.1-0", "1.0.1-1", "1.0.1-a", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]

numbers = st.integers(0, 12)
pre_releases = st.none() | st.sampled_from(["0", "1", "alpha", "alpha.1", "rc.2", "rc.11"])
days = st.dates(datetime.date(1000, 1, 1))
any_version = st.builds(Version, numbers, numbers, numbers, prerelease=pre_releases)


@settings(deadline=None)
@given(st.permutations(ORDERED))
def test_semantic_versions_are_ordered_as_the_specification_says(tags: list[str]) -> None:
    assert versions.newest_first(tags, pre_releases=True) == ORDERED[::-1]


@settings(deadline=None)
@given(st.lists(any_version.map(str), unique=True))
def test_every_look_at_the_same_tags_gives_the_same_order(tags: list[str]) -> None:
    mixed = [f"v{tag}" for tag in tags] + tags
    first = versions.newest_first(mixed, pre_releases=True)
    assert versions.newest_first(mixed[::-1], pre_releases=True) == first
    assert not any(versions.is_newer(later, earlier) for earlier, later in pairwise(first))


@settings(deadline=None)
@given(st.lists(any_version.map(str), unique=True))
def test_the_order_is_that_of_the_library(tags: list[str]) -> None:
    found = versions.newest_first(tags, pre_releases=True)
    assert [Version.parse(tag) for tag in found] == sorted(map(Version.parse, tags), reverse=True)


@pytest.mark.parametrize("tag", ["1.0", "1", "latest", "v", "", "01.2.3", "1.2.3-01", "1.2.3 ", "vv1.2.3", "V1.2.3"])
def test_a_tag_that_is_no_semantic_version_is_no_release(tag: str) -> None:
    assert versions.newest_first([tag], pre_releases=True) == []


def test_a_leading_v_may_be_there_or_not() -> None:
    assert versions.newest_first(["1.0.0", "v1.2.0", "2.0.0"]) == ["2.0.0", "v1.2.0", "1.0.0"]


def test_a_release_that_is_no_version_is_older_than_one() -> None:
    assert versions.is_newer("1.0.0", "latest@sha256:0123456789ab")
    assert not versions.is_newer("latest", "1.0.0")
    assert not versions.is_newer("1.0.0", "1.0.0")


# --- constraints ---


@pytest.mark.parametrize(
    ("text", "fitting", "others"),
    [
        (">=1.2,<2", "1.2.0 1.2.1-rc.1 1.99.0", "1.1.9 1.2.0-rc.1 2.0.0 2.0.0-0 2.0.0-rc.1 3.0.0"),
        (">1.2", "1.3.0-0 1.3.0 2.0.0", "1.2.0 1.2.9 1.1.0"),
        (">1.2.3", "1.2.4 1.2.4-rc.1", "1.2.3 1.2.3-rc.1"),
        (">1.2.3-rc.1", "1.2.3-rc.2 1.2.3", "1.2.3-rc.1 1.2.2"),
        ("<=1.2", "1.2.9 1.0.0", "1.3.0 1.3.0-0 1.3.0-rc.1"),
        ("<=1.2.3", "1.2.3 1.2.3-rc.1 1.2.2", "1.2.4 1.2.4-rc.1"),
        ("<=1.2.3-rc.1", "1.2.3-rc.1 1.2.2", "1.2.3-rc.2 1.2.3"),
        ("<1.2.3", "1.2.2", "1.2.3 1.2.3-rc.1"),
        ("<1.2.3-rc.2", "1.2.3-rc.1 1.2.2", "1.2.3-rc.2 1.2.3"),
        ("=1.2", "1.2.0 1.2.9", "1.3.0 1.3.0-0 1.1.9"),
        ("=1.2.3", "1.2.3", "1.2.4 1.2.3-rc.1"),
        ("1.2.3", "1.2.3", "1.2.4"),
        ("=v1.2.3-rc.1", "1.2.3-rc.1", "1.2.3"),
        ("!=1.2", "1.1.0 1.3.0-0 1.3.0", "1.2.0 1.2.9"),
        ("!=1.2.3", "1.2.4", "1.2.3"),
        ("!=1.2.3-rc.1", "1.2.3 1.2.3-rc.2", "1.2.3-rc.1"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0 1.3.0-0 1.3.0-rc.1"),
        ("~1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.9", "2.0.0"),
        ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0 2.0.0-rc.1"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0", "0.0.0 0.9.0", "1.0.0"),
        ("^1", "1.0.0 1.9.0", "2.0.0"),
        (" >= 1.2 , < 2 ", "1.5.0", "2.0.0"),
        (">=1,!=1.5.0,<2", "1.4.0 1.6.0", "1.5.0 2.1.0"),
    ],
)
def test_a_constraint_admits_what_it_says(text: str, fitting: str, others: str) -> None:
    fits = constraint.parse(text)
    assert [tag for tag in fitting.split() if not fits(Version.parse(tag))] == []
    assert [tag for tag in others.split() if fits(Version.parse(tag))] == []


@pytest.mark.parametrize(
    "text",
    ["", ",", ">=1,", ">", "1.x", "*", ">=1.2.3.4", "=>1", "==1", "1-rc.1", "1.2.3-01", "1.2.3+b", "latest", "01.2"],
)
def test_a_bad_constraint_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a comparator; use >= > <= < = != ~ "):
        constraint.parse(text)


@settings(deadline=None)
@given(any_version, st.tuples(numbers, numbers, numbers), st.integers(1, 3))
def test_comparators_complete_each_other(version: Version, operand: tuple[int, ...], given_numbers: int) -> None:
    text = ".".join(map(str, operand[:given_numbers]))
    below, equal, above = (constraint.parse(f"{operator}{text}")(version) for operator in ("<", "=", ">"))
    assert [below, equal, above].count(True) <= 1
    assert constraint.parse(f"!={text}")(version) is not equal
    assert constraint.parse(f">={text}")(version) is (equal or above)
    if not version.prerelease:
        assert below or equal or above
        assert constraint.parse(f"<={text}")(version) is (below or equal)


# --- calendar versions ---


@pytest.mark.parametrize(
    ("text", "tag", "is_one"),
    [
        ("YYYY.0M.MICRO", "2024.01.0", True),
        ("YYYY.0M.MICRO", "v2024.12.15", True),
        ("YYYY.0M.MICRO", "2024.01.0-rc.1", True),
        ("YYYY.0M.MICRO", "2024.1.0", False),
        ("YYYY.0M.MICRO", "2024.13.0", False),
        ("YYYY.0M.MICRO", "2024.00.0", False),
        ("YYYY.0M.MICRO", "v1.2.3", False),
        ("YYYY.0M.MICRO", "2024.01.01", False),
        ("YYYY.0M.MICRO", "2024.01.0-01", False),
        ("YYYY.0M.MICRO", "2024.01", False),
        ("YYYY.0M.MICRO", "2024x01x0", False),
        ("YYYY.0M.MICRO", "٢٠٢٤.01.0", False),
        ("YYYY.MM.DD", "2024.2.29", True),
        ("YYYY.MM.DD", "2023.2.29", False),
        ("YYYY.MM.DD", "2024.4.31", False),
        ("YYYY.MM.DD", "2024.04.1", False),
        ("YYYY-0M-0D", "2024-04-01", True),
        ("YYYY0M0D", "20240401", True),
        ("release-YY.WW", "release-24.53", True),
        ("release-YY.WW", "release-24.54", False),
        ("0Y.0W", "06.01", True),
        ("0Y.0W", "6.1", False),
        ("YY.MM", "106.1", True),
        ("YYYY", "2024", True),
    ],
)
def test_a_tag_is_a_calendar_version_when_it_fits_the_format(text: str, tag: str, is_one: bool) -> None:
    assert (CalVer(text).parse(tag) is not None) is is_one


@pytest.mark.parametrize(
    ("text", "ordered"),
    [
        ("YYYY.0M.MICRO", ["2023.12.9", "2024.01.0-alpha", "2024.01.0-rc.2", "2024.01.0", "2024.01.2", "2024.01.10"]),
        ("YYYY.MM.DD", ["2024.2.28", "2024.10.1", "2025.1.1"]),
        ("DD.MM.YYYY-MICRO", ["31.12.2023-7", "1.2.2024-0", "1.2.2024-1", "3.2.2024-0", "1.10.2024-0"]),
        ("YY.WW.MICRO", ["9.52.0", "10.2.3", "10.10.0"]),
    ],
)
def test_calendar_versions_are_ordered_by_date_then_micro_and_pre_releases_come_before(
    text: str, ordered: list[str]
) -> None:
    assert versions.newest_first(sorted(ordered), True, CalVer(text).parse) == ordered[::-1]


def test_pre_releases_of_calendar_versions_are_left_out_unless_asked_for() -> None:
    tags = ["2024.02.0-rc.1", "2024.01.0"]
    assert versions.newest_first(tags, False, CalVer("YYYY.0M.MICRO").parse) == ["2024.01.0"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not a format"),
        ("foo", "not a format"),
        ("YYYY.M.MICRO", "M is not known"),
        ("YYY.MM", "Y is not known"),
        ("YYYY.MM.MM", "names the month twice"),
        ("YYYY.YY", "names the year twice"),
    ],
)
def test_a_format_that_is_unknown_is_refused(text: str, line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        CalVer(text)


@settings(deadline=None)
@given(days, st.integers(0, 10**20), days, st.integers(0, 10**20))
def test_the_order_of_calendar_versions_is_that_of_their_days(
    day: datetime.date, micro: int, other: datetime.date, other_micro: int
) -> None:
    tag = f"{day}.{micro}"
    than = f"{other}.{other_micro}"
    is_newer = versions.is_newer(tag, than, CalVer("YYYY-0M-0D.MICRO").parse)
    assert is_newer is ((day, micro) > (other, other_micro))


# --- releases of a source ---


def test_what_a_tag_stands_for_now_replaces_whatever_runs() -> None:
    followed = source.parse("h.io/app:latest")
    now, before = "latest@sha256:aaaaaaaaaaaa", "latest@sha256:bbbbbbbbbbbb"
    assert followed.is_newer(now, before)
    assert followed.is_newer(before, now)
    assert followed.is_newer(now, "1.2.3")
    assert not followed.is_newer(now, now)


def test_the_order_is_the_one_that_the_url_asks_for() -> None:
    calendar = source.parse("h.io/app?calver=DD.MM.YYYY")
    assert calendar.is_newer("1.10.2024", "2.9.2024")
    assert calendar.is_newer("1.10.2024", "1.2.3")
    assert not calendar.is_newer("1.2.3", "1.10.2024")
    semantic = source.parse("h.io/app")
    assert semantic.is_newer("1.10.0", "1.9.0")


@settings(deadline=None)
@given(st.lists(st.text(max_size=40)))
def test_whatever_a_registry_lists_only_versions_are_releases(tags: list[str]) -> None:
    for url in ("h.io/app?pre-release=true", "h.io/app?calver=YYYY.MM.MICRO", "h.io/app?constraint=^1"):
        assert set(source.parse(url).newest_first([*tags, "1" * 6000])) <= set(tags)
