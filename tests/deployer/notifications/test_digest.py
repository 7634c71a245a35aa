"""What people are told, and what is more of the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    Event,
    RegistryFailed,
    RegistryRecovered,
    ReleaseQuarantined,
    ReplicaExited,
    ReplicaRetired,
)
from services.deployer.notifications.notice import Notice
from services.deployer.notifications.notice_filter import MOST_ERRORS, QUIET, NoticeFilter


def exited(time: float, code: int = 1, release: str = "1.0.0", oom: bool = False) -> ReplicaExited:
    return ReplicaExited(time, f"web-{release}-0", release, code, oom)


def failing(reason: str, streak: int = 1) -> RegistryFailed:
    return RegistryFailed(0.0, "img://r", reason, streak)


def kinds(notice_filter: NoticeFilter, *events: Event) -> list[str]:
    return [notice.kind for event in events if (notice := notice_filter.observe(event))]


@pytest.mark.parametrize(
    ("event", "level", "title", "text"),
    [
        (DeploymentSucceeded(1.0, "d", "2.0.0", 3.21), "success", "2.0.0 is deployed", "in 3.2 s"),
        (
            DeploymentFailed(1.0, "d", "2.0.0", phase="check", reason="not ready", duration=3.0),
            "failure",
            "2.0.0 failed",
            "check: not ready",
        ),
        (
            DeploymentFailed(1.0, "d", "2.0.0", phase="check", reason="not ready", duration=3.0),
            "failure",
            "2.0.0 failed",
            "quarantined",
        ),
        (
            DeploymentFailed(1.0, "d", "2.0.0", phase="check", reason="no", duration=3.0, kind="options"),
            "failure",
            "2.0.0 failed",
            "The options before it serve",
        ),
        (
            DeploymentFailed(1.0, "d", "2.0.0", phase="check", reason="no", duration=3.0, kind="restart"),
            "failure",
            "2.0.0 failed",
            "check: no. It is rolled back",
        ),
        (DeploymentRolledBack(1.0, "d", "2.0.0", "1.0.0"), "warning", "2.0.0 is rolled back", "1.0.0 serves as before"),
        (DeploymentRolledBack(1.0, "d", "2.0.0", ""), "warning", "2.0.0 is rolled back", "nothing serves"),
        (exited(1.0, 3), "failure", "a replica of 1.0.0 ended", "web-1.0.0-0 exited with code 3"),
        (exited(1.0, -9, oom=True), "failure", "a replica of 1.0.0 ended", "killed by signal 9, out of memory"),
        (exited(1.0, -1000), "failure", "a replica of 1.0.0 ended", "ended unseen"),
        (failing("HTTP 500"), "warning", "the registry cannot be read", "HTTP 500"),
    ],
)
def test_what_is_told_of_an_event(event: Event, level: str, title: str, text: str) -> None:
    notice = NoticeFilter().observe(event)
    assert notice
    assert (notice.level, notice.time) == (level, event.time)
    assert title in notice.title
    assert text in notice.text
    assert notice.event["type"] == type(event).__name__


@pytest.mark.parametrize(
    "event",
    [
        DeploymentStarted(1.0, "d", "2.0.0", previous="", by="registry", strategy="rolling", replicas=1, trace="t"),
        ReleaseQuarantined(1.0, "2.0.0", "why"),
        ReplicaRetired(1.0, "d", "web-0", reason="replaced"),
        RegistryRecovered(1.0, "img://r", 3),
    ],
)
def test_nothing_is_told_of_what_is_no_news(event: Event) -> None:
    assert NoticeFilter().observe(event) is None


def test_a_crash_of_the_release_that_is_being_deployed_is_left_to_its_deployment() -> None:
    assert NoticeFilter().observe(exited(1.0, release="2.0.0"), deploying="2.0.0") is None
    assert NoticeFilter().observe(exited(1.0, release="1.0.0"), deploying="2.0.0")


def test_a_registry_that_keeps_failing_is_told_once_and_that_it_answers_again_once() -> None:
    streak = [failing("HTTP 500", number) for number in range(1, 50)]
    recovered = RegistryRecovered(9.0, "img://r", 49)
    assert kinds(NoticeFilter(), *streak, recovered, recovered) == ["registry-failed", "registry-recovered"]


def test_another_error_in_a_streak_is_told_but_not_each_time_that_it_alternates() -> None:
    alternating = [failing(reason) for _ in range(9) for reason in ("HTTP 500", "timeout")]
    assert kinds(NoticeFilter(), *alternating) == ["registry-failed"] * 2


def test_an_error_that_words_itself_anew_each_time_is_not_told_for_ever() -> None:
    assert len(kinds(NoticeFilter(), *(failing(f"request {number} failed") for number in range(100)))) == MOST_ERRORS


def test_after_a_streak_the_same_error_is_news_again() -> None:
    story = [failing("HTTP 500"), RegistryRecovered(1.0, "img://r", 1)]
    assert kinds(NoticeFilter(), *story, *story) == ["registry-failed", "registry-recovered"] * 2


def test_crashes_of_one_kind_are_told_once_until_there_is_none_for_a_while() -> None:
    notice_filter = NoticeFilter()
    assert kinds(notice_filter, *(exited(60.0 * number) for number in range(10))) == ["replica-crashed"]
    assert notice_filter.recoveries(540.0 + QUIET - 1) == []
    (over,) = notice_filter.recoveries(540.0 + QUIET)
    assert (over.kind, over.title) == ("replicas-recovered", "the replicas of 1.0.0 stay up")
    assert "after 10 in all" in over.text
    assert notice_filter.recoveries(1e9) == []
    assert kinds(notice_filter, exited(1e9)) == ["replica-crashed"]


def test_running_out_of_memory_amid_other_crashes_is_news_and_so_is_another_release() -> None:
    events = [exited(1.0), exited(2.0, -9, oom=True), exited(3.0), exited(4.0, release="2.0.0")]
    assert kinds(NoticeFilter(), *events) == ["replica-crashed"] * 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("crash"), st.sampled_from("AB"), st.integers(0, 2)),
        st.tuples(st.just("pass"), st.just(""), st.sampled_from([1, 200, 300])),
        st.tuples(st.just("fail"), st.sampled_from("xyz"), st.just(0)),
        st.tuples(st.just("recover"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_streak_is_told_to_begin_and_to_end_exactly_once(steps: list[tuple[str, str, int]]) -> None:
    """Against the plain reading of a story: a streak is open or it is not, and holds the errors that it had so far."""
    notice_filter, now = NoticeFilter(), 0.0
    streaks: dict[str, set[object]] = {}
    last: dict[str, float] = {}
    for step, what, number in steps:
        reported: list[Notice | None]
        if step == "pass":
            now += number
            reported = list(notice_filter.recoveries(now))
            over = [release for release, time in last.items() if now - time >= QUIET]
            for release in over:
                del streaks[release], last[release]
            assert {notice.kind for notice in reported if notice} <= {"replicas-recovered"}
            assert len(reported) == len(over)
        elif step == "recover":
            reported = [notice_filter.observe(RegistryRecovered(now, "r", 1))]
            assert (reported != [None]) == bool(streaks.pop("registry", None))
        else:
            key, error = (what, number) if step == "crash" else ("registry", what)
            event = exited(now, number, what) if step == "crash" else failing(what)
            errors = streaks.setdefault(key, set())
            assert (notice_filter.observe(event) is not None) == (error not in errors)
            errors.add(error)
            if step == "crash":
                last[key] = now
