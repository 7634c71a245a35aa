"""Applications, ports and hosts that are gone, or cut off: no gauge says of them what nobody knows."""

from __future__ import annotations

import pytest

from schemas import events as e
from services.metrics_gateway.fold.expiry import KEPT, PERIOD, SILENCE
from services.metrics_gateway.instruments.processes import REMEMBERED
from services.metrics_gateway.views.status import LogStatus, Status, containers, status
from tests.metrics_gateway.events import accepted, closed, established, started
from tests.metrics_gateway.recording import exposition
from tests.metrics_gateway.timeline import Timeline

LONG = SILENCE + PERIOD + 5
GAUGES = (
    "dewy_proxy_backends",
    "dewy_proxy_connections_active",
    "dewy_container_replicas",
    "dewy_container_desired_replicas",
    "dewy_container_status",
    "longshore_replicas_healthy",
    "longshore_deployment_running",
    "longshore_deployments_paused",
    "longshore_releases_quarantined",
    "longshore_registry_failing",
    "longshore_proxy_backend_connections_active",
)


def series(log: Timeline, *names: str) -> dict[str, float]:
    """The samples of these metrics."""
    lines = [line for line in exposition(log.state).splitlines() if line.startswith(names) and line[0] != "#"]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def gauges(log: Timeline) -> set[str]:
    return {line.partition("{")[0] for line in series(log, *(f"{name}{{" for name in GAUGES))}


def house() -> Timeline:
    """A proxy and a deployer of an application that serves, and a gateway on another host."""
    log = Timeline()
    log.say("m", started("proxy:80"), app="_")
    log.say("m", e.ListenerOpened(1.0, 80, "0.0.0.0"), e.BackendJoined(1.0, 80, "b", ":1"))
    log.say("w", started("proxy-worker", "m"), app="_")
    log.say("w", accepted(1), established(1))
    log.say("d", started("deployer:web"), app="_", service="deployer")
    log.say(
        "d", e.ScaleSet(1.0, 1), e.ReplicaStarted(1.0, "", "b", release="v1", address=":1", pid=7, slot=0, duration=0.1)
    )
    log.say("g", started("gateway"), app="_", service="gateway", host="elsewhere")
    return log


def answer(log: Timeline) -> Status:
    return status(log.state, LogStatus(1, 0, True, 0.0, True), "1")


def test_while_all_is_well_every_gauge_is_there() -> None:
    assert gauges(house()) == set(GAUGES)


def test_what_is_cut_off_is_unknown_and_not_zero_and_back_with_its_next_word() -> None:
    log = house()
    before = series(log, *GAUGES)
    log.beat(LONG, "g")
    assert gauges(log) == set()
    assert series(log, "dewy_proxy_connections_total") == {
        'dewy_proxy_connections_total{app="web",host="host",proxy_port="80"}': 1.0
    }
    log.beat(5, "m", "w", "d", "g")
    assert series(log, *GAUGES) == before


def test_a_proxy_whose_successor_serves_nothing_yet_is_zero_and_not_unknown() -> None:
    log = house()
    log.say("m2", started("proxy:80"), app="_")
    assert series(log, "dewy_proxy_backends") == {'dewy_proxy_backends{app="web",host="host",proxy_port="80"}': 0.0}


def test_a_port_whose_opening_has_left_the_log_has_no_backends_that_are_known_and_not_zero_of_them() -> None:
    log = Timeline()
    log.say("w", started("proxy-worker", "m"), app="_")
    log.say("w", accepted(1), established(1))
    assert series(log, "dewy_proxy_connections_total", "dewy_proxy_backends") == {
        'dewy_proxy_connections_total{app="web",host="host",proxy_port="80"}': 1.0
    }
    log.say("m", e.BackendJoined(1.0, 80, "b", ":1"))
    assert series(log, "dewy_proxy_backends") == {'dewy_proxy_backends{app="web",host="host",proxy_port="80"}': 1.0}


def test_what_said_good_bye_leaves_no_gauge() -> None:
    log = house()
    log.say("w", closed(1), e.ServiceStopped(1.0, "stopped"))
    log.say("m", e.ListenerClosed(1.0, 80))
    log.say("m", e.ServiceStopped(1.0, "stopped"), app="_")
    log.say("d", e.ServiceStopped(1.0, "stopped"), app="_")
    assert gauges(log) == set()
    assert not series(log, 'longshore_unit_up{host="host"')
    assert answer(log).proxies == []


def test_a_port_that_another_proxy_has_taken_over_stays_and_one_that_none_has_goes() -> None:
    log = house()
    log.say("m", e.ListenerOpened(1.0, 81, "0.0.0.0"))
    log.say("m2", started("proxy:80"), app="_")
    log.say("m2", e.ListenerOpened(1.0, 80, "0.0.0.0"), e.BackendJoined(1.0, 80, "b", ":1"))
    log.say("m", e.ListenerClosed(1.0, 80), e.ListenerClosed(1.0, 81))
    log.say("m", e.ServiceStopped(1.0, "stopped"), app="_")
    log.say("w", closed(1))
    assert series(log, "dewy_proxy_backends") == {'dewy_proxy_backends{app="web",host="host",proxy_port="80"}': 1.0}
    assert [one.port for one in answer(log).proxies] == [80]


def test_connections_that_are_open_on_a_port_that_is_closed_are_shown_until_they_end() -> None:
    log = house()
    log.say("m", e.ListenerClosed(1.0, 80))
    assert "dewy_proxy_connections_active" in gauges(log)
    log.say("w", closed(1))
    assert "dewy_proxy_connections_active" not in gauges(log)


def removed() -> Timeline:
    log = house()
    log.say("d", e.ServiceStopped(1.0, "stopped"), app="_")
    log.say("r", e.ApplicationRemoved(1.0, "ann"), e.ServiceStopped(1.0, "stopped"), service="deployer")
    log.say("m", e.ListenerClosed(1.0, 80))
    log.say("w", closed(1))
    return log


def test_an_application_that_was_removed_leaves_no_gauge_and_stands_in_no_answer() -> None:
    log = removed()
    assert gauges(log) == set()
    found = answer(log)
    assert (found.apps, found.proxies, containers(log.state).containers) == ([], [], [])
    assert series(log, "dewy_proxy_connections_total")
    log.beat(LONG, "m", "w", "g")
    log.restart()
    assert gauges(log) == set()


def test_an_application_that_comes_back_has_its_sums_and_only_the_replicas_that_run() -> None:
    log = removed()
    log.say("d2", started("deployer:web"), app="_", service="deployer")
    log.say("d2", e.ScaleSet(1.0, 3), e.ReplicaAdopted(1.0, replica="c", release="v1", address=":2", pid=8, slot=0))
    assert [one.name for one in answer(log).apps] == ["web"]
    assert [one.id for one in containers(log.state).containers] == ["c"]
    assert answer(log).apps[0].desired_replicas == 3
    assert log.port.connections == 1


def test_a_word_of_the_former_deployer_that_comes_late_does_not_bring_a_removed_application_back() -> None:
    log = removed()
    log.say("d", e.ScaleSet(1.0, 5))
    assert gauges(log) == set()


@pytest.mark.parametrize("silence", [20, 40])
def test_a_unit_is_told_of_with_the_time_since_it_was_heard(silence: int) -> None:
    log = house()
    log.beat(silence, "m", "w", "g")
    name = '{host="host",service="deployer",unit="deployer:web"}'
    assert series(log, "longshore_unit_silence_seconds")[f"longshore_unit_silence_seconds{name}"] == silence
    assert series(log, "longshore_unit_up")[f"longshore_unit_up{name}"] == 1.0


def test_a_unit_that_fell_silent_is_down_for_a_day_and_then_gone() -> None:
    log = house()
    log.beat(LONG, "g")
    ups = series(log, 'longshore_unit_up{host="host"')
    assert set(ups.values()) == {0.0}
    assert len(ups) == 2
    log.beat(REMEMBERED, "g")
    assert not series(log, 'longshore_unit_up{host="host"')
    assert series(log, "longshore_unit_up")


def test_backends_of_a_missed_proxy_keep_their_counts_until_it_speaks_again() -> None:
    log = house()
    log.beat(LONG + KEPT + 3 * PERIOD, "g")
    log.say("w", accepted(2), established(2))
    assert log.port.backends["b"].connections == log.port.latency.count == 2


def test_a_port_whose_opening_has_left_the_log_is_neither_open_nor_closed() -> None:
    log = Timeline()
    log.say("w", accepted(1), established(1))
    assert [one.listening for one in answer(log).proxies] == [None]
    log.say("m", e.ListenerOpened(1.0, 80, "0.0.0.0"))
    assert [one.listening for one in answer(log).proxies] == [True]
    log.say("m", e.ListenerClosed(2.0, 80))
    assert [one.listening for one in answer(log).proxies] == [False]
