"""What the master decides about the backends of a port."""

from __future__ import annotations

from schemas.events import BackendDrained, BackendEjected, BackendJoined, BackendLeft, Event
from schemas.routing import Backend, BackendState, Route, Serving
from services.proxy.master.pool import Effects, Pool, Retry
from services.proxy.messages import ApplyRoute, DialFailure, Eject, Readmit, RouteApplied

APP, PORT = "web", 80


def backend(name: str, state: BackendState = "active", port: int = 1) -> Backend:
    return Backend(name, "127.0.0.1", port, state)


def route(generation: int, *backends: Backend) -> Route:
    return Route(APP, PORT, generation, list(backends))


def follows(revision: int, draining: dict[str, int] | None = None, cut: dict[str, int] | None = None) -> RouteApplied:
    return RouteApplied(APP, PORT, revision, draining or {}, cut or {})


def pool(*workers: str) -> Pool:
    result = Pool(APP, PORT)
    for worker in workers:
        result.worker_started(worker)
    return result


def told(steps: Effects) -> list[tuple[type[Event], str]]:
    events = [
        event
        for event in steps.events
        if isinstance(event, BackendJoined | BackendLeft | BackendEjected | BackendDrained)
    ]
    return [(type(event), event.backend) for event in events]


def test_a_generation_is_served_once_every_worker_follows_it() -> None:
    subject = pool("x", "y")
    subject.follow(route(7, backend("a")), 0)
    subject.worker_follows("x", follows(1), 0)
    assert subject.serving() is None
    subject.worker_follows("y", follows(1), 0)
    assert subject.serving() == Serving(APP, PORT, 7, {})
    subject.follow(route(9, backend("b")), 0)
    subject.worker_follows("x", follows(2), 0)
    assert subject.serving() == Serving(APP, PORT, 7, {})
    subject.worker_ended("y", 0)
    assert subject.serving() == Serving(APP, PORT, 9, {})


def test_a_worker_that_has_just_started_is_waited_for() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    subject.worker_follows("x", follows(1), 0)
    subject.worker_started("y")
    subject.follow(route(2, backend("b")), 0)
    subject.worker_follows("x", follows(2), 0)
    assert subject.serving() == Serving(APP, PORT, 1, {})
    subject.worker_follows("y", follows(2), 0)
    assert subject.serving() == Serving(APP, PORT, 2, {})


def test_an_older_generation_and_a_repeated_route_change_nothing() -> None:
    subject = pool("x")
    newest = route(5, backend("a"))
    assert subject.follow(newest, 0).orders == [ApplyRoute(APP, PORT, 1, [backend("a")], [], {"a": 1})]
    assert subject.follow(newest, 0) == Effects()
    assert subject.follow(route(4), 0) == Effects()


def test_a_route_that_vanished_from_the_bus_stays_until_another_comes() -> None:
    subject = pool("x")
    subject.follow(route(5, backend("a")), 0)
    subject.forget()
    assert subject.order().backends == [backend("a")]
    assert told(subject.follow(route(1, backend("b")), 0)) == [(BackendJoined, "b"), (BackendLeft, "a")]


def test_after_a_route_that_vanished_the_next_one_is_the_oldest_that_counts() -> None:
    subject = pool("x")
    subject.follow(route(5, backend("a")), 0)
    subject.forget()
    subject.follow(route(3, backend("b")), 0)
    assert subject.follow(route(2, backend("a")), 0) == Effects()


def test_another_route_of_the_same_generation_is_followed() -> None:
    subject = pool("x")
    subject.follow(route(5, backend("a")), 0)
    assert told(subject.follow(route(5, backend("b")), 0)) == [(BackendJoined, "b"), (BackendLeft, "a")]


def failed(subject: Pool, name: str = "a") -> DialFailure:
    """A dial to a backend, as it is now, failed."""
    order = subject.order()
    (found,) = [each for each in order.backends if each.id == name]
    return DialFailure(APP, PORT, found, "refused", order.admissions[name])


def eject(subject: Pool) -> Retry:
    (retry,) = subject.dial_failed(failed(subject), 0).retries
    return retry


def test_a_failed_backend_is_tried_after_longer_each_time_until_it_answers() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    steps = subject.dial_failed(failed(subject), 0)
    assert told(steps) == [(BackendEjected, "a")]
    assert steps.orders == [Eject(APP, PORT, "a")]
    delays = []
    for _ in range(6):
        (retry,) = steps.retries
        delays.append(retry.delay)
        assert subject.awaits(retry)
        assert subject.order().ejected == ["a"]
        steps = subject.tried(retry, "failed", 0)
        assert not steps.events
        assert not steps.orders
    assert delays == [1, 2, 4, 8, 16, 30]
    (retry,) = steps.retries
    back = subject.tried(retry, "answered", 0)
    assert told(back) == [(BackendJoined, "a")]
    admission = subject.order().admissions["a"]
    assert back.orders == [Readmit(APP, PORT, "a", admission)]
    assert subject.order().ejected == []
    assert not subject.awaits(retry)


def test_the_delay_starts_over_only_when_a_client_was_served() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    delays = []
    for _ in range(7):
        retry = eject(subject)
        delays.append(retry.delay)
        subject.tried(retry, "answered", 0)
    assert delays == [1, 2, 4, 8, 16, 30, 30]
    subject.answered("a", retry.admission)
    last = eject(subject)
    assert last.delay == 30
    subject.tried(last, "answered", 0)
    subject.answered("a", subject.order().admissions["a"])
    assert eject(subject).delay == 1


def test_a_backend_that_is_away_for_a_week_is_still_tried() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    retry = eject(subject)
    for _ in range(20_000):  # one each 30 s
        (retry,) = subject.tried(retry, "failed", 0).retries
    assert retry.delay == 30


def test_a_trial_that_this_host_prevents_says_nothing_about_the_backend() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    retry = eject(subject)
    for _ in range(5):
        steps = subject.tried(retry, "blocked", 0)
        assert not steps.events
        assert not steps.orders
        (retry,) = steps.retries
        assert retry.delay == 1
    assert [again.delay for again in subject.tried(retry, "failed", 0).retries] == [2]


def test_a_failure_that_many_workers_report_is_one_ejection() -> None:
    subject = pool("x", "y")
    subject.follow(route(1, backend("a")), 0)
    news = failed(subject)
    subject.dial_failed(news, 0)
    assert subject.dial_failed(news, 0) == Effects()


def test_a_dial_that_began_before_its_backend_was_let_in_again_changes_nothing() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    stale = failed(subject)
    subject.tried(eject(subject), "answered", 0)
    assert subject.dial_failed(stale, 0) == Effects()
    subject.follow(route(2, backend("a", "draining")), 0)
    draining = failed(subject)
    assert subject.dial_failed(draining, 0) == Effects()
    subject.follow(route(3, backend("a")), 0)
    assert subject.dial_failed(draining, 0) == Effects()
    assert told(subject.dial_failed(failed(subject), 0)) == [(BackendEjected, "a")]


def test_a_failure_of_an_old_address_or_of_a_backend_that_left_is_nothing() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a", port=1), backend("b")), 0)
    stale = [failed(subject, "a"), failed(subject, "b"), DialFailure(APP, PORT, backend("c"), "refused")]
    subject.follow(route(2, backend("a", port=2), backend("b", "draining")), 0)
    assert all(subject.dial_failed(news, 0) == Effects() for news in stale)


def test_a_new_address_ends_an_ejection_and_its_retry() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a", port=1)), 0)
    retry = eject(subject)
    steps = subject.follow(route(2, backend("a", port=2)), 0)
    assert steps.events == [BackendJoined(0, PORT, "a", "127.0.0.1:2")]
    assert subject.order().ejected == []
    assert not subject.awaits(retry)
    assert subject.tried(retry, "answered", 0) == Effects()
    assert eject(subject).delay == 1


def test_a_backend_that_drains_is_not_tried_again() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    retry = eject(subject)
    subject.follow(route(2, backend("a", "draining")), 0)
    assert not subject.awaits(retry)
    assert subject.tried(retry, "answered", 0) == Effects()


def test_an_ejection_survives_a_route_that_keeps_the_address() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    retry = eject(subject)
    assert told(subject.follow(route(2, backend("a"), backend("b")), 0)) == [(BackendJoined, "b")]
    assert subject.order().ejected == ["a"]
    assert [type(order) for order in subject.tried(retry, "answered", 0).orders] == [Readmit]


def test_an_ipv6_address_is_told_in_brackets() -> None:
    steps = pool("x").follow(route(1, Backend("a", "::1", 8080)), 0)
    assert steps.events == [BackendJoined(0, PORT, "a", "[::1]:8080")]
