"""Which release is newest, and when one is deployed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.routing import Artifact, Decisions, Ongoing
from services.deployer.registry import parse, versions
from services.deployer.rollout.backoff import LONGEST, STABLE_AFTER, Backoff
from services.deployer.rollout.decisions import (
    desired,
    newest_first,
    next_options,
    next_release,
    options_to_use,
    revision,
    with_failed,
    with_inferred,
    with_started,
    with_succeeded,
    without_failed_options,
    without_outdated_scale,
    without_quarantine,
)

PRECEDENCE = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "v1.0.0-rc.1",
    "1.0.0",
    "v1.0.1",
    "1.2.0",
    "1.10.0",
    "v2.0.0-0",
    "2.0.0",
]


@given(st.randoms(use_true_random=False))
def test_versions_are_ordered_as_the_specification_says(chance: random.Random) -> None:
    names = PRECEDENCE.copy()
    chance.shuffle(names)
    assert versions.newest_first(names, pre_releases=True) == PRECEDENCE[::-1]
    assert versions.newest_first(names) == ["2.0.0", "1.10.0", "1.2.0", "v1.0.1", "1.0.0"]


@pytest.mark.parametrize(
    "name",
    ["latest", "1.0", "1", "vv1.0.0", "V1.0.0", "01.0.0", "1.0.0\n", " 1.0.0", "1.0.0-", "", "v", ".git", "\u0661.0.0"],
)
def test_a_name_that_is_no_version_is_ignored(name: str) -> None:
    assert versions.newest_first([name, "0.0.1"], pre_releases=True) == ["0.0.1"]


def test_equal_versions_are_not_newer_than_each_other() -> None:
    assert not versions.is_newer("v1.0.0", "1.0.0")
    assert not versions.is_newer("1.0.0+b", "1.0.0+a")
    assert versions.newest_first(["1.0.0", "v1.0.0"]) == versions.newest_first(["v1.0.0", "1.0.0"])


SERVING = Decisions(current="1.1.0", previous="1.0.0")
ONGOING = Ongoing("id", "2.0.0", "registry", "rolling", "trace", 0.0)


@pytest.mark.parametrize(
    ("decisions", "offered", "is_alive", "expected"),
    [
        (Decisions(), [], False, ""),
        (Decisions(), ["2.0.0", "1.0.0"], False, "2.0.0"),
        (Decisions(quarantined={"2.0.0": "bad"}), ["2.0.0", "1.0.0"], False, "1.0.0"),
        (Decisions(quarantined={"2.0.0": "bad"}), ["2.0.0"], False, ""),
        (SERVING, ["1.1.0", "1.0.0"], True, ""),
        (SERVING, ["2.0.0", "1.1.0"], True, "2.0.0"),
        (SERVING, ["1.0.0"], True, ""),
        (SERVING, ["1.0.0"], False, "1.0.0"),
        (SERVING, ["1.1.0", "1.0.0"], False, ""),
        (replace(SERVING, quarantined={"2.0.0": "bad"}), ["2.0.0", "1.2.0", "1.1.0"], True, ""),
        (replace(SERVING, quarantined={"2.0.0": "bad"}), ["2.0.1", "2.0.0", "1.1.0"], True, "2.0.1"),
        (replace(SERVING, pinned="1.1.0"), ["2.0.0", "1.1.0"], True, ""),
        (replace(SERVING, paused=True), ["2.0.0", "1.1.0"], True, ""),
        (replace(SERVING, ongoing=ONGOING), ["2.0.0", "1.1.0"], True, ""),
    ],
)
def test_the_release_that_is_due(decisions: Decisions, offered: list[str], is_alive: bool, expected: str) -> None:
    assert next_release(decisions, offered, is_alive) == expected


def test_a_deployment_that_begins_waits_for_no_host() -> None:
    assert with_started(replace(SERVING, waiting="waits for web-1, which has 1.0.0"), ONGOING).waiting == ""


def test_success_moves_on_and_keeps_only_what_may_be_needed_again() -> None:
    begun = with_started(
        replace(
            SERVING, quarantined={"1.5.0": "bad", "3.0.0": "bad"}, artifacts={"1.1.0": Artifact(), "0": Artifact()}
        ),
        replace(ONGOING, pinned="2.0.0", artifact=Artifact("sha256:2", "/2")),
    )
    done = with_succeeded(begun, begun.ongoing or ONGOING)
    assert (done.current, done.previous, done.pinned, done.ongoing) == ("2.0.0", "1.1.0", "2.0.0", None)
    assert done.quarantined == {"3.0.0": "bad"}
    assert done.artifacts == {"1.1.0": Artifact(), "2.0.0": Artifact("sha256:2", "/2")}


@pytest.mark.parametrize(
    ("registry", "quarantined", "ordered"),
    [
        ("img://r.example/app", ["2.0.0", "10.0.0", "9.0.0-rc.1"], ["10.0.0", "9.0.0-rc.1", "2.0.0"]),
        ("img://r.example/app?calver=DD.0M.YYYY", ["2.01.2026", "30.12.2025"], ["2.01.2026", "30.12.2025"]),
        ("img://r.example/app?calver=YYYY.0M.0D", ["2025.04.02", "2025.12.01"], ["2025.12.01", "2025.04.02"]),
        ("img://r.example/app:rc", ["rc@sha256:0a", "rc@sha256:ff"], ["rc@sha256:ff", "rc@sha256:0a"]),
        ("img://r.example/app:rc", ["rc@sha256:ff", "rc@sha256:0a"], ["rc@sha256:0a", "rc@sha256:ff"]),
    ],
)
def test_what_is_in_quarantine_is_ordered_as_its_registry_orders_it(
    registry: str, quarantined: list[str], ordered: list[str]
) -> None:
    assert newest_first(quarantined, parse(registry).is_newer) == ordered


def test_failure_quarantines_and_is_undone_until_that_is_over() -> None:
    failed = with_failed(replace(SERVING, ongoing=ONGOING), ONGOING, "it crashed")
    assert (failed.current, failed.quarantined) == ("1.1.0", {"2.0.0": "it crashed"})
    assert failed.ongoing == replace(ONGOING, failed=True)
    assert without_quarantine(failed, "2.0.0").quarantined == {}


def test_the_last_line_of_a_failed_release_is_kept_as_long_as_its_quarantine() -> None:
    begun = replace(SERVING, ongoing=ONGOING, last_lines={"3.0.0": "bad", "2.0.0": "old"}, quarantined={"3.0.0": ""})
    failed = with_failed(begun, ONGOING, "it crashed", "starting\nno database")
    assert failed.last_lines == {"3.0.0": "bad", "2.0.0": "no database"}
    assert without_quarantine(failed, "2.0.0").last_lines == {"3.0.0": "bad"}
    assert with_failed(begun, ONGOING, "it crashed").last_lines == {"3.0.0": "bad"}
    assert with_succeeded(failed, ONGOING).last_lines == {"3.0.0": "bad"}


def test_a_crash_loop_of_a_week_still_starts_a_replica_a_minute() -> None:
    backoff = Backoff()
    waits = [backoff.crashed(0, 1.0, 0.0) for _ in range(10_000)]
    assert waits[-1] == LONGEST


def test_a_slot_waits_longer_after_each_crash_and_forgets_after_a_good_minute() -> None:
    backoff = Backoff()
    waits = [backoff.crashed(0, uptime=1.0, now=float(now)) for now in range(10)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]
    assert backoff.held == {0: 9 + LONGEST}
    assert backoff.crashed(1, uptime=1.0, now=0.0) == 0
    assert backoff.crashed(0, uptime=STABLE_AFTER, now=100.0) == 0


def test_a_success_of_the_same_release_keeps_the_one_before_and_forgets_failures_of_other_options() -> None:
    serving = replace(SERVING, previous="1.0.0", options="a", failed_options={"b": "it crashed"})
    restarted = with_succeeded(serving, replace(ONGOING, release=SERVING.current, deployment="d", options="a"))
    assert (restarted.previous, restarted.deployment, restarted.failed_options) == ("1.0.0", "d", {"b": "it crashed"})
    changed = with_succeeded(serving, replace(ONGOING, release=SERVING.current, options="c"))
    assert (changed.options, changed.failed_options) == ("c", {})


@pytest.mark.parametrize(
    ("kind", "quarantined", "failed_options"),
    [
        ("release", {ONGOING.release: "why"}, {}),
        ("options", {}, {"b": "why"}),
        ("restart", {}, {}),
        ("redeploy", {}, {}),
    ],
)
def test_what_is_new_in_a_failed_deployment_is_quarantined(
    kind: str, quarantined: dict[str, str], failed_options: dict[str, str]
) -> None:
    ongoing = replace(ONGOING, kind=kind, options="b")
    failed = with_failed(replace(SERVING, ongoing=ongoing), ongoing, "why")
    assert (failed.quarantined, failed.failed_options) == (quarantined, failed_options)
    assert failed.ongoing == replace(ongoing, failed=True)
    assert without_failed_options(failed, "b").failed_options == {}
    assert without_failed_options(failed, "c").failed_options == failed_options


@pytest.mark.parametrize(
    ("decisions", "due"),
    [
        (replace(SERVING, options="a"), "b"),
        (replace(SERVING, options="b"), ""),
        (SERVING, ""),
        (replace(SERVING, options="a", current=""), ""),
        (replace(SERVING, options="a", failed_options={"b": "why"}), ""),
        (replace(SERVING, options="a", failed_options={"c": "why"}), "b"),
        (replace(SERVING, options="a", pinned="1.1.0"), "b"),
        (replace(SERVING, options="a", paused=True), ""),
        (replace(SERVING, options="a", stopped=True), ""),
        (replace(SERVING, options="a", replicas=0), ""),
        (replace(SERVING, options="a", replicas=1), "b"),
        (replace(SERVING, options="a", ongoing=ONGOING), ""),
    ],
)
def test_other_options_are_due_unless_they_failed_or_nothing_is_to_be_deployed(decisions: Decisions, due: str) -> None:
    assert next_options(decisions, "b") == due


def test_no_release_is_due_while_no_replica_is_to_run() -> None:
    assert next_release(replace(SERVING, stopped=True), ["9.0.0"], True) == ""
    assert next_release(replace(SERVING, replicas=0), ["9.0.0"], True) == ""
    assert next_release(replace(SERVING, replicas=1), ["9.0.0"], True) == "9.0.0"


def test_a_deployment_uses_the_wanted_options_unless_they_failed() -> None:
    serving = replace(SERVING, options="a")
    assert options_to_use(serving, "b") == "b"
    assert options_to_use(replace(serving, failed_options={"b": "why"}), "b") == "a"
    assert options_to_use(replace(SERVING, failed_options={"b": "why"}), "b") == "b"


def test_the_number_of_replicas_is_the_operators_until_the_option_changes() -> None:
    scaled = replace(SERVING, replicas=0, replicas_option=2)
    assert (desired(SERVING, 2), desired(scaled, 2)) == (2, 0)
    assert without_outdated_scale(scaled, 2) == scaled
    assert without_outdated_scale(scaled, 3).replicas is None


def test_the_revision_is_the_deployment_or_the_release_of_an_earlier_version() -> None:
    assert revision(SERVING) == SERVING.current
    assert revision(replace(SERVING, deployment="d")) == "d"


def test_what_is_unknown_is_what_most_replicas_run() -> None:
    running = [("1.0.0", "d", "a"), ("2.0.0", "e", "b"), ("1.0.0", "d", "a")]
    found = with_inferred(Decisions(), running, "w")
    assert (found.current, found.deployment, found.options) == ("1.0.0", "d", "a")
    old = with_inferred(Decisions(), [("1.0.0", "1.0.0", "")], "w")
    assert (old.current, old.deployment, old.options) == ("1.0.0", "", "w")
    assert with_inferred(Decisions(), [], "w") == Decisions()
    assert with_inferred(SERVING, running, "w") == replace(SERVING, options="w")
    assert with_inferred(replace(Decisions(), ongoing=ONGOING), running, "w").current == ""
