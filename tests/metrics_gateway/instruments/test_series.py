"""What the series of our own say, as a scrape shows them."""

from __future__ import annotations

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas import events as e
from services.metrics_gateway.state.application import PHASES
from tests.metrics_gateway.events import accepted, closed, established, progressed, started
from tests.metrics_gateway.recording import exposition
from tests.metrics_gateway.timeline import Timeline


def scraped(log: Timeline, name: str, label: str = "") -> dict[str, float]:
    """The samples of a name by one of their labels."""
    return {
        sample.labels.get(label, ""): sample.value
        for family in text_string_to_metric_families(exposition(log.state))
        for sample in family.samples
        if sample.name == name
    }


def test_bytes_are_told_by_direction_as_they_go_on() -> None:
    log = Timeline()
    log.say("w", accepted(1), progressed(1, 100, 7), accepted(2), closed(2, 5, 6))
    assert scraped(log, "longshore_proxy_bytes_total", "direction") == {"in": 105, "out": 13}
    log.say("w", closed(1, 150, 8))
    assert scraped(log, "longshore_proxy_bytes_total", "direction") == {"in": 155, "out": 14}
    assert scraped(log, "dewy_proxy_bytes_transferred_total") == {"": 169}


def test_every_connection_is_open_or_ended_for_one_reason() -> None:
    log = Timeline()
    reasons = ["eof", "eof", "client_reset", "backend_reset", "client_gone", "idle", "drained", "shutdown", "new"]
    for number, reason in enumerate(reasons):
        log.say(
            "w",
            accepted(number),
            e.ConnectionClosed(1.0, number, 80, backend="b", bytes_in=0, bytes_out=0, duration=0.1, reason=reason),
        )
    log.say("w", accepted(100), e.ConnectionRefused(1.0, 100, 80, reason="no_backend", duration=10.0), accepted(101))
    ended = scraped(log, "longshore_proxy_connections_closed_total", "reason")
    assert ended == {**dict.fromkeys(reasons[1:-1], 1), "eof": 2, "other": 1}
    failed = scraped(log, "longshore_proxy_errors_total", "reason")
    assert failed == {"no_backend": 1, "dial_failed": 0}
    total = scraped(log, "dewy_proxy_connections_total")[""]
    assert total == sum(ended.values()) + sum(failed.values()) + scraped(log, "dewy_proxy_connections_active")[""]


def test_each_backend_has_its_connections_latency_and_failures() -> None:
    log = Timeline()
    log.say("m", e.BackendJoined(1.0, 80, "b", ":1"), e.BackendJoined(1.0, 80, "c", ":2"))
    log.say("w", accepted(1), e.DialFailed(1.0, 1, 80, backend="c", latency=2.0, reason="timeout"), established(1, 0.5))
    log.say(
        "w",
        accepted(2),
        established(2, 0.25),
        closed(2),
        e.DialFailed(1.0, 3, 80, backend="c", latency=1.0, reason="strange"),
    )
    log.say("m", e.BackendEjected(1.0, 80, "c", "timeout"))
    assert scraped(log, "longshore_proxy_backend_connections_total", "backend") == {"b": 2, "c": 0}
    assert scraped(log, "longshore_proxy_backend_connections_active", "backend") == {"b": 1, "c": 0}
    assert scraped(log, "longshore_proxy_ejections_total", "backend") == {"b": 0, "c": 1}
    sums = scraped(log, "longshore_proxy_backend_connect_latency_seconds_sum", "backend")
    assert sums == {"b": 0.75, "c": 3.0}
    assert sum(sums.values()) == scraped(log, "dewy_proxy_connect_latency_seconds_sum")[""]
    failures = [
        line.rpartition(" ")[2]
        for line in exposition(log.state).splitlines()
        if line.startswith('longshore_proxy_backend_dial_failures_total{app="web",backend="c"') and 'timeout"' in line
    ]
    assert failures == ["1.0"]
    assert sum(log.port.backends["c"].failures.values()) == 2


def test_a_backend_keeps_its_open_connection_when_progress_is_told() -> None:
    log = Timeline()
    log.say("w", accepted(1), established(1), progressed(1, 1, 1))
    assert scraped(log, "longshore_proxy_backend_connections_active", "backend") == {"b": 1}


def test_time_that_connections_were_held_counts_whether_a_backend_came_or_not() -> None:
    log = Timeline()
    log.say("w", accepted(1), e.ConnectionEstablished(1.0, 1, 80, backend="b", latency=0.001, attempts=1, held=2.5))
    log.say(
        "w",
        accepted(2),
        established(2),
        accepted(3),
        e.ConnectionRefused(1.0, 3, 80, reason="no_backend", duration=10.0),
    )
    assert (log.port.hold.count, log.port.hold.sum) == (2, 12.5)


def test_connections_that_a_drain_cut_are_counted() -> None:
    log = Timeline()
    log.say("m", e.BackendDrained(1.0, 80, "b", 3, 30.0), e.BackendDrained(1.0, 80, "c", 0, 0.1))
    assert scraped(log, "longshore_proxy_connections_cut_total") == {"": 3}


def deployment(log: Timeline) -> None:
    """One that replaces an old replica by a new one."""
    log.say("d", started("deployer:web"), app="_", service="deployer")
    log.say(
        "d",
        e.DeploymentStarted(
            1.0, "1", "v2", previous="v1", by="registry", strategy="rolling", replicas=2, trace="", resolved=0.5
        ),
        e.ImagePulled(1.0, "1", "v2", 8.0),
        e.ReplicaStarted(1.0, "1", "new", release="v2", address=":1", pid=7, slot=0, duration=0.25),
        e.ReplicaReady(1.0, "1", "new", 3.0),
        e.ReplicaRouted(1.0, "1", "new", 0.125),
        e.ReplicaDraining(1.0, "1", "old"),
        e.ReplicaDrained(1.0, "1", "old", cut=1, duration=20.0),
        e.ReplicaRetired(1.0, "1", "old", reason="replaced", duration=2.0),
        service="deployer",
    )


def test_each_step_of_a_deployment_has_its_duration() -> None:
    log = Timeline()
    deployment(log)
    name = "longshore_deployment_phase_duration_seconds"
    assert scraped(log, f"{name}_sum", "phase") == dict(
        zip(PHASES, [0.5, 8.0, 0.25, 3.0, 0.125, 20.0, 2.0], strict=True)
    )
    assert set(scraped(log, f"{name}_count", "phase").values()) == {1}


def test_what_is_done_for_no_deployment_is_no_step_of_one() -> None:
    log = Timeline()
    log.say(
        "d",
        e.ReplicaStarted(1.0, "", "r", release="v", address=":1", pid=7, slot=0, duration=0.25),
        e.ReplicaReady(1.0, "", "r", 3.0),
    )
    assert sum(histogram.count for histogram in log.app.phases.values()) == 0


def test_what_an_older_version_did_not_tell_is_not_taken_for_no_time() -> None:
    log = Timeline()
    log.say(
        "d", e.DeploymentStarted(1.0, "1", "v", previous="", by="registry", strategy="rolling", replicas=1, trace="")
    )
    log.say("d", e.ReplicaStarted(1.0, "1", "r", release="v", address=":1", pid=7), e.ReplicaRouted(1.0, "1", "r"))
    assert sum(histogram.count for histogram in log.app.phases.values()) == 0


def test_a_deployment_runs_until_it_succeeds_or_fails() -> None:
    log = Timeline()
    deployment(log)
    assert scraped(log, "longshore_deployment_running") == {"": 1}
    log.say(
        "d",
        e.DeploymentFailed(1.0, "1", "v2", phase="check", reason="no", duration=9.0),
        e.ReleaseQuarantined(1.0, "v2", "no"),
    )
    log.say("d", e.DeploymentRolledBack(1.0, "1", "v2", "v1"))
    assert scraped(log, "longshore_deployment_running") == {"": 0}
    failures = scraped(log, "longshore_deployment_failures_total", "phase")
    assert (failures["check"], sum(failures.values())) == (1, 1)
    assert scraped(log, "longshore_deployment_rollbacks_total") == {"": 1}
    assert scraped(log, "longshore_releases_quarantined") == {"": 1}


def test_pauses_are_told() -> None:
    log = Timeline()
    log.say("d", e.DeploymentsPaused(1.0, "ann"))
    assert scraped(log, "longshore_deployments_paused") == {"": 1}
    log.say("d", e.DeploymentsResumed(1.0, "ann"))
    assert scraped(log, "longshore_deployments_paused") == {"": 0}


def test_a_registry_that_fails_counts_and_the_streak_ends_with_it_or_with_the_deployer() -> None:
    log = Timeline()
    for streak in (1, 2, 3):
        log.say("d", e.RegistryFailed(1.0, "img://r/a", "no", streak))
    assert scraped(log, "longshore_registry_failing") == {"": 3}
    log.say("d", e.RegistryRecovered(1.0, "img://r/a", 3))
    assert scraped(log, "longshore_registry_failing") == {"": 0}
    log.say("d", e.RegistryFailed(1.0, "img://r/a", "no", 1))
    log.say("d2", started("deployer:web"), app="_")
    assert scraped(log, "longshore_registry_failing") == {"": 0}
    assert scraped(log, "longshore_registry_failures_total") == {"": 4}


def test_probes_have_a_duration_and_replicas_that_pass_are_healthy() -> None:
    log = Timeline()
    log.say(
        "d",
        e.ReplicaStarted(1.0, "1", "r", release="v", address=":1"),
        e.ReplicaStarted(1.0, "1", "s", release="v", address=":2"),
    )
    log.say("h", e.HealthChecked(1.0, "r", True, 0.25), e.HealthChecked(1.0, "s", False, 0.5, "timeout"))
    log.say("h", e.HealthChanged(1.0, "r", True), e.HealthChanged(1.0, "s", False))
    assert scraped(log, "longshore_healthcheck_duration_seconds_sum") == {"": 0.75}
    assert scraped(log, "longshore_replicas_healthy") == {"": 1}
    log.say("d", e.ReplicaExited(1.0, "r", "v", 1))
    assert scraped(log, "longshore_replicas_healthy") == {"": 0}


NAMES = ("cpu_seconds_total", "memory_bytes", "memory_limit_bytes", "network_received_bytes_total")


def resources(log: Timeline) -> list[dict[str, float]]:
    return [scraped(log, f"longshore_replica_{name}", "container") for name in NAMES]


def test_the_resources_of_a_replica_end_with_it() -> None:
    log = Timeline()
    log.say("d", *(e.ReplicaStarted(1.0, "1", name, release="v", address=":1", slot=0) for name in ("a", "b")))
    assert resources(log) == [{}, {}, {}, {}]
    sample = e.ReplicasSampled(
        1.0, cpu={"a": 0.5, "b": 2.0, "?": 1.0}, memory={"a": 7, "b": 8}, memory_limit={"b": 9}, received={"b": 3}
    )
    log.say("d", sample)
    assert resources(log) == [{"a": 0.5, "b": 2.0}, {"a": 7, "b": 8}, {"b": 9}, {"b": 3}]
    log.say("d", e.ReplicaRetired(1.0, "1", "a", reason="replaced"), e.ReplicaExited(1.0, "b", "v", 1))
    assert resources(log) == [{}, {}, {}, {}]


def test_the_counters_of_a_container_continue_when_its_engine_restarts_it() -> None:
    log = Timeline()
    log.say("d", e.ReplicaStarted(1.0, "1", "a", release="v", address=":1", slot=0))
    log.say("d", e.ReplicasSampled(1.0, cpu={"a": 2.5}, received={"a": 10}))
    for restarts in range(1, 12):
        log.say("d", e.ReplicasSampled(1.0, cpu={"a": 0.25}, received={"a": 1}, restarts={"a": restarts}))
    log.say("d", e.ReplicasSampled(1.0, cpu={"a": 0.5}, received={"a": 2}, restarts={"a": 11}))
    log.say("d", e.ReplicasSampled(1.0, cpu={"a": 99}, received={"a": 99}, restarts={"a": 1}))  # too late to count
    assert resources(log) == [{"a": 2.5 + 10 * 0.25 + 0.5}, {}, {}, {"a": 22}]
    assert scraped(log, "dewy_container_restarts", "container") == {"a": 11}


def test_a_restart_that_no_deployer_saw_is_counted_by_the_engine() -> None:
    log = Timeline()
    log.say("d", e.ReplicaStarted(1.0, "1", "a", release="v", address=":1", slot=0))
    log.say("d2", e.ReplicaAdopted(1.0, replica="a", release="v", address=":1", slot=0))
    log.say("d2", e.ReplicasSampled(1.0, cpu={"a": 0.25}, restarts={"a": 2}))
    assert scraped(log, "dewy_container_restarts", "container") == {"a": 2}


def test_the_wanted_replicas_are_unknown_while_replicas_may_run_whose_start_has_left_the_log() -> None:
    log = Timeline()
    log.state.position, log._sequences["d"] = 100, 7

    def begin(deployment: str) -> e.DeploymentStarted:
        return e.DeploymentStarted(
            1.0, deployment, "v", previous="", by="registry", strategy="rolling", replicas=4, trace=""
        )

    log.say("d", e.ScaleSet(1.0, 4), begin("1"), service="deployer")
    log.say("d", e.DeploymentFailed(2.0, "1", "v", phase="check", reason="it ended", duration=1.0))
    assert scraped(log, "dewy_container_desired_replicas") == {}
    log.say("d", begin("2"), e.DeploymentSucceeded(2.0, "2", "v", duration=1.0))
    assert scraped(log, "dewy_container_desired_replicas") == {"": 4}


def test_the_wanted_replicas_are_those_of_the_deployers_start_and_of_the_last_deployment() -> None:
    log = Timeline()
    log.say("d", started("deployer:web"), app="_")
    assert scraped(log, "dewy_container_desired_replicas") == {"": 0}
    log.say("d", e.ScaleSet(1.0, 2))
    assert scraped(log, "dewy_container_desired_replicas") == {"": 2}
    log.say(
        "d", e.DeploymentStarted(1.0, "1", "v", previous="", by="registry", strategy="rolling", replicas=3, trace="")
    )
    assert scraped(log, "dewy_container_desired_replicas") == {"": 3}


def test_a_container_says_what_it_runs_and_since_when() -> None:
    log = Timeline()
    log.say("d", e.ReleaseFound(1.0, "1.2", "sha256:0", "img://registry:5000/shop?pre-release=true"))
    log.say("d", e.ReplicaStarted(17.5, "1", "shop-1.2-0-ab", release="1.2", address=":1", pid=7, slot=3, duration=0.1))
    lines = exposition(log.state).splitlines()
    labels = 'app="web",container="shop-1.2-0-ab",host="host"'
    assert f'dewy_container_started_timestamp_seconds{{{labels},replica="3"}} 17.5' in lines
    image = 'image="registry:5000/shop:1.2"'
    assert f'dewy_container_info{{{labels},{image},replica="3",version="1.2"}} 1.0' in lines
    assert f'dewy_container_status{{{labels},replica="3",state="running"}} 1.0' in lines
    assert not any("last_terminated_exit_code{" in line or "oom_killed{" in line for line in lines)


def test_a_replica_in_place_of_one_that_died_is_a_restart_of_its_slot() -> None:
    log = Timeline()
    log.say(
        "d",
        e.ReplicaStarted(1.0, "1", "a", release="v", address=":1", pid=7, slot=0, duration=0.1),
        e.ReplicaStarted(1.0, "1", "b", release="v", address=":2", pid=8, slot=1),
    )
    assert scraped(log, "longshore_replica_restarts_total", "replica") == {"0": 0, "1": 0}
    log.say(
        "d",
        e.ReplicaExited(1.0, "a", "v", 1),
        e.ReplicaStarted(1.0, "", "c", release="v", address=":3", pid=9, slot=0, duration=0.1),
    )
    assert scraped(log, "longshore_replica_restarts_total", "replica") == {"0": 1, "1": 0}
    assert scraped(log, "dewy_container_restarts", "container") == {"a": 0, "b": 0, "c": 0}


def test_one_that_its_engine_starts_again_keeps_how_it_last_ended() -> None:
    log = Timeline()
    log.say("d", e.ReplicaStarted(1.0, "1", "a", release="v", address=":1", pid=7, slot=0, duration=0.1))
    log.say(
        "d", e.ReplicaExited(1.0, "a", "v", 3), e.ReplicaStarted(2.0, "", "a", release="v", address=":1", pid=8, slot=0)
    )
    assert scraped(log, "dewy_container_restarts", "container") == {"a": 1}
    assert scraped(log, "dewy_container_last_terminated_exit_code", "container") == {"a": 3}
    assert scraped(log, "dewy_container_oom_killed", "container") == {"a": 0}
    assert scraped(log, "dewy_container_replicas") == {"": 1}


@pytest.mark.parametrize(
    ("code", "oom", "reason", "shown"),
    [
        (0, False, "finished", {"a": 0}),
        (2, False, "error", {"a": 2}),
        (-9, False, "signal", {"a": 137}),
        (137, True, "oom", {"a": 137}),
        (-1000, False, "unseen", {}),
    ],
)
def test_replicas_that_ended_are_counted_by_reason(code: int, oom: bool, reason: str, shown: dict[str, float]) -> None:
    log = Timeline()
    log.say(
        "d",
        e.ReplicaStarted(1.0, "1", "a", release="v", address=":1", pid=7, slot=0),
        e.ReplicaExited(1.0, "a", "v", code, oom),
    )
    exits = scraped(log, "longshore_replica_exits_total", "reason")
    assert (exits[reason], sum(exits.values())) == (1, 1)
    assert scraped(log, "dewy_container_last_terminated_exit_code", "container") == shown


def test_processes_of_a_unit_are_told_together() -> None:
    log = Timeline()
    log.say(
        "m",
        started("proxy:80"),
        e.ServiceHeartbeat(1.0, rss=1000, cpu=1.0, loop_lag=0.5, spool_batches=2, spool_bytes=300),
        app="_",
    )
    for worker, cpu in (("w1", 2.0), ("w2", 3.0)):
        log.say(
            worker, started("proxy-worker", "m"), e.ServiceHeartbeat(1.0, rss=500, cpu=cpu, loop_lag=cpu / 10), app="_"
        )
    both = {"proxy:80", "proxy-worker"}
    assert scraped(log, "longshore_process_memory_bytes", "unit") == dict.fromkeys(both, 1000)
    assert scraped(log, "longshore_process_cpu_seconds_total", "unit") == {"proxy:80": 1.0, "proxy-worker": 5.0}
    assert scraped(log, "longshore_process_loop_lag_seconds", "unit") == {"proxy:80": 0.5, "proxy-worker": 0.3}
    assert scraped(log, "longshore_spool_batches", "unit") == {"proxy:80": 2, "proxy-worker": 0}
    assert scraped(log, "longshore_spool_size_bytes", "unit") == {"proxy:80": 300, "proxy-worker": 0}


def test_cpu_time_never_goes_back_when_a_process_ends() -> None:
    log = Timeline()
    log.say("a", started("health"), e.ServiceHeartbeat(1.0, rss=1000, cpu=4.0, loop_lag=0.0), app="_")
    log.say("b", started("health"), e.ServiceHeartbeat(2.0, rss=900, cpu=0.5, loop_lag=0.0), app="_")
    assert scraped(log, "longshore_process_cpu_seconds_total", "unit") == {"health": 4.5}
    assert scraped(log, "longshore_process_memory_bytes", "unit") == {"health": 900}


def test_event_lag_is_from_the_newest_event_of_a_batch_to_the_log() -> None:
    log = Timeline(now=100.0)
    log.say("w", e.ConnectionAccepted(90.0, 1, 80), e.ConnectionAccepted(99.5, 2, 80))
    log.say("w", e.ConnectionAccepted(130.0, 3, 80))
    log.say("w", e.ConnectionAccepted(math.nan, 4, 80))
    assert scraped(log, "longshore_event_lag_seconds_sum", "service") == {"proxy": 0.5}
    assert scraped(log, "longshore_event_lag_seconds_count", "service") == {"proxy": 2}
