"""What the fold makes of the starts and ends of processes."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.state.instance import Heartbeat
from tests.metrics_gateway.events import Log, accepted, closed, started
from tests.metrics_gateway.fold.test_expiry import LONG, delivered, proxied


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
