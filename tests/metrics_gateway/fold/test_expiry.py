"""What time does to the state, which is that of the log and of no clock."""

from __future__ import annotations

import pytest

from schemas import events as e
from services.metrics_gateway.fold.expiry import KEPT, MOST_KEPT, PERIOD, SILENCE
from services.metrics_gateway.fold.instance import ENDED_KEPT
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.state.port import MANY
from tests.metrics_gateway.events import accepted, closed, established, started
from tests.metrics_gateway.recording import exposition
from tests.metrics_gateway.timeline import Timeline

LONG = SILENCE + PERIOD + 5


def proxied() -> Timeline:
    """A proxy with an open connection to a backend, and somebody else."""
    log = Timeline()
    log.say("m", started("proxy:80"), app="_")
    log.say("m", e.ListenerOpened(1.0, 80, "0.0.0.0"), e.BackendJoined(1.0, 80, "b", ":1"))
    log.say("w", started("proxy-worker", "m"), app="_")
    log.say("w", accepted(1), established(1))
    log.say("g", started("gateway"), app="_")
    return log


def delivered() -> Timeline:
    """A deployer with a running replica and a deployment under way, and somebody else."""
    log = Timeline()
    log.say("d", started("deployer:web"), app="_", service="deployer")
    log.say(
        "d",
        e.DeploymentStarted(1.0, "1", "v1", previous="", by="registry", strategy="rolling", replicas=1, trace=""),
        service="deployer",
    )
    log.say(
        "d",
        e.ReplicaStarted(1.0, "1", "r", release="v1", address=":1", pid=7, slot=0, duration=0.1),
        service="deployer",
    )
    log.say("g", started("gateway"), app="_")
    return log


def test_who_is_silent_while_others_speak_is_taken_to_be_over() -> None:
    log = proxied()
    log.beat(SILENCE - PERIOD, "g")
    assert (log.live, log.active, log.backends) == ({"m", "w", "g"}, 1, {"b"})
    log.beat(LONG, "g")
    assert (log.live, log.active, log.backends) == ({"g"}, 0, set())
    assert log.port.connections == log.port.backends["b"].connections == 1


def test_who_speaks_again_is_back_with_all_that_it_had_open() -> None:
    log = proxied()
    log.beat(LONG, "g")
    log.beat(5, "m", "w", "g")
    assert (log.live, log.active, log.backends) == ({"m", "w", "g"}, 1, {"b"})
    log.say("w", closed(1))
    assert (log.active, log.port.duration.count) == (0, 1)
    assert log.state.units["host", "proxy:80"] == "m"


def test_who_comes_back_when_another_has_its_place_stays_over() -> None:
    log = proxied()
    log.beat(LONG, "g")
    log.say("m2", started("proxy:80"), app="_")
    log.beat(5, "m", "w", "g", "m2")
    assert log.live == {"g", "m2"}
    assert log.active == 0


def test_nobody_is_missed_because_nobody_could_speak() -> None:
    log = proxied()
    log.now += 7 * 86400
    log.beat(5, "g")
    assert (log.live, log.active) == ({"m", "w", "g"}, 1)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_makes_nobody_missed_and_everybody_who_is_silent(jump: float) -> None:
    log = proxied()
    log.now += jump
    log.beat(5, "g")
    assert log.live == {"m", "w", "g"}
    log.beat(LONG, "g")
    assert log.live == {"g"}


def test_an_instance_that_said_good_bye_is_not_missed() -> None:
    log = delivered()
    log.say("d", e.ServiceStopped(1.0, "stopped"), app="_", service="deployer")
    log.beat(LONG, "g")
    assert len(log.app.running) == 1


def test_replicas_and_deployments_are_over_with_their_deployer_and_back_with_it() -> None:
    log = delivered()
    assert (len(log.app.running), log.app.is_deploying) == (1, True)
    log.beat(LONG, "g")
    assert (len(log.app.running), log.app.is_deploying) == (0, False)
    assert "dewy_container_status{" not in exposition(log.state)
    log.beat(5, "d", "g")
    assert (len(log.app.running), log.app.is_deploying) == (1, True)


def test_the_next_deployer_has_the_replicas_that_it_finds() -> None:
    log = delivered()
    log.beat(LONG, "g")
    log.say("d2", started("deployer:web"), app="_", service="deployer")
    log.say("d2", e.ReplicaAdopted(1.0, replica="r", release="v1", address=":1", pid=7, slot=0), service="deployer")
    log.beat(LONG, "d2", "g")
    assert [replica.id for replica in log.app.running] == ["r"]


def test_the_same_log_gives_the_same_state_with_and_without_a_restart_in_between() -> None:
    states = []
    for restarts in (False, True):
        log = proxied()
        for _ in range(4):
            log.beat(SILENCE / 2, "g")
            if restarts:
                log.restart()
        log.beat(5, "w", "g")
        states.append(log.state)
    assert states[0] == states[1]
    assert {one.id for one in states[0].running()} == {"w", "g"}


def test_those_that_were_missed_are_forgotten_beyond_a_limit() -> None:
    log = Timeline()
    for n in range(ENDED_KEPT + 50):
        log.say(f"i{n}", started(f"unit-{n}"), app="_")
    log.beat(LONG, "g")
    assert len(log.state.instances) == ENDED_KEPT + 1


def test_cpu_time_of_who_is_forgotten_is_kept() -> None:
    log = Timeline()
    for n in range(ENDED_KEPT + 50):
        log.say(f"i{n}", started("unit"), app="_")
        log.beat(5, f"i{n}")
    line = 'longshore_process_cpu_seconds_total{host="host",service="proxy",unit="unit"} '
    assert f"{line}{(ENDED_KEPT + 50) * 1.5}" in exposition(log.state)


def test_the_lag_of_a_service_is_from_its_newest_event_to_the_log_and_never_below_zero() -> None:
    log = Timeline(now=100.0)
    log.say("w", e.EventsDropped(90.0, 1), e.EventsDropped(98.0, 1))
    log.say("w")
    log.say("w", e.EventsDropped(105.0, 1))
    lag = log.state.services["proxy"].lag
    assert (sum(lag.counts), lag.counts[0], lag.nanoseconds) == (2, 1, 2_000_000_000)


def test_a_backend_keeps_its_series_for_a_while_after_it_left() -> None:
    log = proxied()
    log.say("w", closed(1))
    log.say("m", e.BackendLeft(1.0, 80, "b"))
    log.beat(KEPT - PERIOD, "m", "w")
    assert set(log.port.backends) == {"b"}
    log.beat(3 * PERIOD, "m", "w")
    assert set(log.port.backends) == set()
    assert log.port.latency.count == 1


def test_a_backend_that_is_in_use_keeps_its_series() -> None:
    log = proxied()
    log.say("m", e.BackendJoined(1.0, 80, "idle", ":2"), e.BackendLeft(1.0, 80, "b"))
    log.beat(2 * KEPT, "m", "w")
    assert set(log.port.backends) == {"b", "idle"}


def test_a_hundred_thousand_backends_over_time_take_the_room_of_a_few() -> None:
    log = proxied()
    most = 0
    for n in range(100_000):
        name = f"backend-{n}"
        log.now += 1
        log.say("m", e.BackendJoined(1.0, 80, name, ":1"), e.BackendLeft(1.0, 80, name))
        log.say(
            "w", accepted(n), e.ConnectionEstablished(1.0, n, 80, backend=name, latency=0.01, attempts=1), closed(n)
        )
        most = max(most, len(log.port.backends))
    assert most <= MOST_KEPT + PERIOD + 2
    assert log.port.latency.count == log.port.connections == 100_001
    assert len(exposition(log.state).splitlines()) < 30 * MOST_KEPT


def test_many_backends_within_a_moment_are_not_kept_either() -> None:
    log = proxied()
    for n in range(0, 20_000, 100):
        names = [f"backend-{m}" for m in range(n, n + 100)]
        log.say("m", *[e.BackendJoined(1.0, 80, name, ":1") for name in names])
        log.say("m", *[e.BackendLeft(1.0, 80, name) for name in names])
    assert len(log.port.backends) <= MANY + 100


def test_many_backends_that_are_there_are_all_kept() -> None:
    log = proxied()
    for n in range(2 * MANY):
        log.say("m", e.BackendJoined(1.0, 80, f"backend-{n}", ":1"))
    assert len(log.port.backends) == 2 * MANY + 1


def test_a_replica_that_crashed_shows_how_for_a_while() -> None:
    log = delivered()
    log.say("d", e.ReplicaExited(1.0, "r", "v1", -9, True), service="deployer")
    text = exposition(log.state)
    labels = 'app="web",container="r",host="host",replica="0"'
    assert f"dewy_container_last_terminated_exit_code{{{labels}}} 137.0" in text
    assert f"dewy_container_oom_killed{{{labels}}} 1.0" in text
    assert f'dewy_container_status{{{labels},state="exited"}} 1.0' in text
    log.beat(KEPT + 2 * PERIOD, "d")
    assert 'container="r"' not in exposition(log.state)


def test_a_thousand_crashes_in_a_row_take_the_room_of_a_few() -> None:
    log = delivered()
    for n in range(1000):
        log.now += 1
        log.say(
            "d",
            e.ReplicaStarted(1.0, "", f"r{n}", release="v1", address=":1", pid=7, slot=0, duration=0.1),
            service="deployer",
        )
        log.say("d", e.ReplicaExited(1.0, f"r{n}", "v1", 1), service="deployer")
    assert len(log.app.replicas) <= MOST_KEPT + PERIOD + 2
    assert 'longshore_replica_exits_total{app="web",host="host",reason="error"} 1000.0' in exposition(log.state)


def test_no_label_of_a_client_or_a_long_one_makes_a_series_that_a_store_refuses() -> None:
    log = Timeline()
    endless = "x" * 1000
    for name in (endless, endless + "y"):
        log.say("m", e.BackendJoined(1.0, 80, name, ":1"), app=endless)
        log.say(
            "d",
            e.ReplicaStarted(1.0, "1", name, release=name, address=":1", pid=7, slot=0, duration=0.1),
            app=endless,
            service="deployer",
        )
    log.say(
        "w",
        e.ConnectionClosed(1.0, 1, 80, backend="b", bytes_in=1, bytes_out=1, duration=0.1, reason=endless),
        app=endless,
    )
    text = exposition(log.state)
    assert max(map(len, text.splitlines())) < 2000
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert 'reason="other"' in text


def test_a_name_of_invalid_text_is_no_batch() -> None:
    log = proxied()
    before = exposition(log.state)
    for text in (b"\xff\xfe", b"\xed\xa0\x80"):
        log.store(b"\x96\xa5proxy\xa4host" + bytes([0xA0 + len(text)]) + text + b"\xa1i\x01\x90")
    assert log.state.undecodable == 2
    assert exposition(log.state).replace("undecodable_total 2.0", "undecodable_total 0.0") == before


def test_the_series_of_a_port_that_opens_are_all_zero() -> None:
    log = Timeline()
    log.say("m", e.ListenerOpened(1.0, 80, "0.0.0.0"))
    names = {one.prometheus for one in INSTRUMENTS if one.labels[-3:] == ("proxy_port", "app", "host")}
    names -= {name for name in names if "backend_" in name or "ejections" in name}
    lines = [line for line in exposition(log.state).splitlines() if 'proxy_port="80"' in line]
    assert {line.partition("{")[0] for line in lines} >= {
        f"{name}{suffix}"
        for name in names
        for suffix in (["_bucket", "_sum", "_count"] if name.endswith("_seconds") else [""])
    }
    assert {line.rpartition(" ")[2] for line in lines} == {"0.0"}
