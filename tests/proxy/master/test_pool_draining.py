"""When a backend of a port has drained, as the master sees it."""

from __future__ import annotations

from schemas.events import BackendDrained, BackendJoined, BackendLeft
from schemas.routing import Serving
from services.proxy.master.pool import Effects
from tests.proxy.master.test_pool import APP, PORT, backend, follows, pool, route, told


def test_without_a_worker_a_backend_that_leaves_is_drained_at_once() -> None:
    subject = pool()
    subject.follow(route(1, backend("a")), 100)
    assert subject.follow(route(2), 103).events == [BackendLeft(103, PORT, "a"), BackendDrained(103, PORT, "a", 0, 0)]


def test_a_backend_that_is_draining_when_it_is_seen_first_neither_joins_nor_leaves() -> None:
    subject = pool("x")
    assert told(subject.follow(route(1, backend("a", "draining")), 0)) == []
    assert told(subject.worker_follows("x", follows(1), 0)) == []
    assert subject.order().backends == [backend("a", "draining")]


def test_a_backend_that_gets_another_address_while_it_drains_is_let_in_again() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a", "draining")), 0)
    before = subject.order().admissions["a"]
    subject.follow(route(2, backend("a", "draining"), backend("b")), 0)
    assert subject.order().admissions["a"] == before
    subject.follow(route(3, backend("a", "draining", port=2)), 0)
    assert subject.order().admissions["a"] > before


def test_a_draining_backend_is_drained_when_no_worker_has_a_connection_to_it() -> None:
    subject = pool("x", "y")
    subject.follow(route(1, backend("a")), 100)
    for worker in "xy":
        subject.worker_follows(worker, follows(1), 100)
    assert told(subject.follow(route(2, backend("a", "draining")), 101)) == [(BackendLeft, "a")]
    assert subject.worker_follows("x", follows(2, {"a": 2}), 101).events == []
    assert subject.worker_follows("y", follows(2, {"a": 3}), 101).events == []
    assert subject.serving() == Serving(APP, PORT, 2, {"a": 5})
    assert subject.worker_follows("x", follows(2), 102).events == []
    assert subject.serving() == Serving(APP, PORT, 2, {"a": 3})
    assert subject.worker_follows("y", follows(2), 104).events == [BackendDrained(104, PORT, "a", 0, 3)]
    assert subject.worker_follows("x", follows(2), 105).events == []
    assert told(subject.follow(route(3), 105)) == []


def test_connections_of_a_former_master_s_workers_are_waited_for_and_counted() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a"), backend("b")), 100)
    former: list[dict[str, int] | None] = [{"a": 2}, {"a": 1}]
    assert subject.previous_workers_have(former, 100) == Effects()
    subject.follow(route(2, backend("a", "draining"), backend("b")), 100)
    assert subject.worker_follows("x", follows(2, {"a": 4}), 101).events == []
    assert subject.serving() == Serving(APP, PORT, 2, {"a": 7})
    assert subject.worker_follows("x", follows(2), 102).events == []
    assert subject.previous_workers_have(former, 103) == Effects()
    assert subject.previous_workers_have([{"b": 1}], 104).events == [BackendDrained(104, PORT, "a", 0, 4)]


def test_a_former_worker_that_does_not_say_what_it_has_open_may_have_any_backend() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 100)
    subject.previous_workers_have([None], 100)
    subject.follow(route(2, backend("a", "draining")), 100)
    assert subject.worker_follows("x", follows(2), 101).events == []
    assert subject.serving() == Serving(APP, PORT, 2, {"a": 1})
    assert told(subject.previous_workers_have([], 102)) == [(BackendDrained, "a")]


def test_the_connections_of_a_worker_that_dies_are_drained() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 100)
    subject.follow(route(2, backend("a", "draining")), 100)
    subject.worker_follows("x", follows(2, {"a": 1}), 100)
    assert told(subject.worker_ended("x", 101)) == [(BackendDrained, "a")]


def test_connections_that_were_cut_are_counted_over_all_workers() -> None:
    subject = pool("x", "y")
    subject.follow(route(1, backend("a")), 100)
    subject.follow(route(2, backend("a", "draining")), 100)
    for worker in "xy":
        subject.worker_follows(worker, follows(2, {"a": 4}), 100)
    assert told(subject.follow(route(3), 130)) == []
    assert subject.worker_follows("x", follows(3, cut={"a": 4}), 130).events == []
    assert subject.worker_follows("y", follows(3, cut={"a": 3}), 130).events == [BackendDrained(130, PORT, "a", 7, 30)]


def test_a_backend_that_leaves_while_it_drains_is_drained_when_every_worker_knows_that_it_left() -> None:
    subject = pool("x", "y")
    subject.follow(route(1, backend("a")), 100)
    subject.follow(route(2, backend("a", "draining")), 100)
    for worker in "xy":
        subject.worker_follows(worker, follows(2, {"a": 1}), 100)
    subject.follow(route(3), 110)
    assert subject.worker_follows("x", follows(3, cut={"a": 1}), 110).events == []
    assert subject.worker_follows("y", follows(2), 111).events == []
    assert subject.worker_follows("y", follows(3, cut={"a": 1}), 112).events == [BackendDrained(112, PORT, "a", 2, 12)]


def test_an_active_backend_that_leaves_the_route_has_left_and_drained() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 100)
    assert told(subject.follow(route(2), 100)) == [(BackendLeft, "a")]
    assert told(subject.worker_follows("x", follows(2), 100)) == [(BackendDrained, "a")]


def test_a_backend_that_returns_from_draining_joins_again() -> None:
    subject = pool("x")
    subject.follow(route(1, backend("a")), 0)
    subject.follow(route(2, backend("a", "draining")), 0)
    assert told(subject.follow(route(3, backend("a")), 0)) == [(BackendJoined, "a")]
    assert told(subject.worker_follows("x", follows(3), 0)) == []
