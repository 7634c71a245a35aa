"""What the fold makes of the starts and ends of processes."""

from __future__ import annotations

import pytest

from schemas import events as e
from services.metrics_gateway.fold import instance
from services.metrics_gateway.state.instance import Heartbeat
from tests.metrics_gateway.events import Log, accepted, closed, started
from tests.metrics_gateway.fold.test_expiry import LONG, delivered, proxied

STOPPED = e.ServiceStopped(2.0, "it was stopped")


def test_an_instance_says_what_it_is_and_how_it_is() -> None:
    log = Log()
    log.say(
        "w",
        e.ServiceStarted(2.0, "proxy-worker", "1.2", 42, "m"),
        e.ServiceHeartbeat(3.0, rss=5, cpu=1.5, loop_lag=0.1, spool_batches=7, spool_bytes=8),
    )
    one = log.state.instances["w"]
    assert (one.unit, one.version, one.pid, one.parent, one.started) == ("proxy-worker", "1.2", 42, "m", 2.0)
    assert (one.heartbeat, one.ended, one.stop_reported) == (Heartbeat(3.0, 5, 1.5, 0.1, 7, 8), None, False)


def test_a_start_that_is_told_twice_ends_nothing() -> None:
    log = Log()
    for _ in range(2):
        log.say("m", started("proxy:80"))
        assert {one.id for one in log.state.running()} == {"m"}
    assert log.state.units == {("host", "proxy:80"): "m"}


def test_an_instance_that_stops_leaves_its_place_and_its_listeners() -> None:
    log = Log()
    log.say("m", started("proxy:80"), e.ListenerOpened(1.0, 80, "0.0.0.0"), e.ServiceStopped(1.0, "stopped"))
    one = log.state.instances["m"]
    assert (log.state.units, one.ended, one.stop_reported, one.listeners) == ({}, "stopped", True, {})


def test_listeners_of_an_instance_that_stopped_are_kept_until_its_late_batches_have_come() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    log.say("w", e.ServiceStopped(1.0, "stopped"), sequence=3)
    assert set(log.state.instances["w"].listeners) == {("web", 80)}
    log.say("w", closed(1, 3, 4), sequence=2)
    assert (log.state.instances["w"].listeners, log.port.bytes) == ({}, 7)


def test_why_an_instance_ended_is_what_was_said_first() -> None:
    log = Log()
    log.say("m1", started("proxy:80"))
    log.say("m2", started("proxy:80"))
    log.say("m1", e.ServiceStopped(1.0, "stopped"))
    assert log.state.instances["m1"].ended == "replaced"
    assert log.state.units == {("host", "proxy:80"): "m2"}


def test_an_instance_that_was_missed_ends_for_the_reason_that_it_gives_itself() -> None:
    log = proxied()
    log.beat(LONG, "g")
    log.say("m", e.ServiceStopped(1.0, "stopped"), app="_")
    assert log.state.instances["m"].ended == "stopped"
    assert log.live == {"g"}


def test_a_deployer_that_is_missed_loses_its_own_application_only() -> None:
    log = delivered()
    log.say("d2", started("deployer:shop"), app="_", service="deployer")
    log.beat(LONG, "d2", "g")
    assert {app: known.lost for (_, app), known in log.state.apps.items()} == {"web": True, "shop": False}


def test_what_an_instance_said_of_itself_is_among_the_recent_events_and_no_detail_is() -> None:
    log = Log()
    log.say("w", started("proxy:80"), accepted(1))
    assert [recent.event for recent in log.state.recent] == [started("proxy:80")]


def test_a_master_knows_no_worker_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "ENDED_KEPT", 2)
    log = Log()
    log.say("m", started("proxy:80"))
    for n in range(5):
        log.say(f"w{n}", started("proxy-worker", parent="m"), STOPPED)
    assert list(log.state.children["m"]) == ["w3", "w4"]
    for n in range(2):
        log.say(f"other{n}", started(f"other:{n}"), STOPPED)
    assert log.state.children == {}


def test_workers_of_a_master_that_is_forgotten_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "ENDED_KEPT", 1)
    log = Log()
    log.say("m", started("proxy:80"))
    log.say("w", started("proxy-worker", parent="m"))
    instance.miss(log.state, log.state.instances["m"])
    log.say("other", started("other:1"), STOPPED)
    assert (list(log.state.children), {one.id for one in log.state.running()}) == ([], {"w"})


def test_an_instance_that_is_back_is_not_forgotten_with_those_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "ENDED_KEPT", 1)
    log = Log()
    log.say("m", started("proxy:80"))
    instance.miss(log.state, log.state.instances["m"])
    log.say("m", accepted(1))
    for n in range(3):
        log.say(f"other{n}", started(f"other:{n}"), STOPPED)
    assert {one.id for one in log.state.running()} == {"m"}


def test_an_instance_that_was_missed_and_then_ended_is_forgotten_by_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "ENDED_KEPT", 2)
    log = Log()
    log.say("m", started("proxy:80"))
    log.say("w", started("proxy-worker", parent="m"))
    instance.miss(log.state, log.state.instances["w"])
    log.say("other", started("other:1"), STOPPED)
    instance.end(log.state, log.state.instances["m"], "it was removed")
    assert set(log.state.instances) == {"m", "w"}
