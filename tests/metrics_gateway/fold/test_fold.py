"""What the fold makes of events: the meanings of the metrics."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import HANDLERS, apply_batch
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.port import Port
from tests.metrics_gateway.events import Log, accepted, closed, established, progressed, started
from tests.metrics_gateway.traces.story import failed, succeeded


def test_no_event_of_the_schemas_is_forgotten() -> None:
    assert set(HANDLERS) == set(e.EVENT_TYPES)


def test_a_connection_is_counted_on_accept_and_active_until_it_closes() -> None:
    log = Log()
    log.say("w", accepted(1), accepted(2), established(1))
    assert (log.port.connections, log.active) == (2, 2)
    log.say("w", closed(1))
    assert (log.port.connections, log.active) == (2, 1)


def test_a_refused_connection_is_one_error_and_has_a_duration() -> None:
    log = Log()
    log.say("w", accepted(1), e.ConnectionRefused(1.0, 1, 80, reason="no_backend", duration=10.0))
    assert (log.port.errors, log.active, log.port.duration.count, log.port.duration.sum) == (1, 0, 1, 10.0)


def test_failed_dials_count_in_the_connect_latency_but_are_no_errors_as_long_as_another_backend_answers() -> None:
    log = Log()
    log.say(
        "w", accepted(1), e.DialFailed(1.0, 1, 80, backend="b", latency=2.0, reason="timeout"), established(1, 0.004)
    )
    assert (log.port.latency.count, log.port.latency.sum, log.port.errors) == (2, 2.004, 0)


def test_a_duration_equal_to_a_bound_falls_below_it() -> None:
    log = Log()
    log.say("w", established(1, 0.005), established(2, 0.0050001), established(3, 5.0), established(4, 5.1))
    counts = dict(zip([*log.port.latency.bounds, math.inf], log.port.latency.counts, strict=True))
    assert counts[0.005] == counts[0.01] == counts[5.0] == counts[math.inf] == 1


def test_bytes_of_an_open_connection_are_counted_as_they_grow_and_once() -> None:
    log = Log()
    log.say("w", accepted(1), progressed(1, 100, 200))
    assert log.port.bytes == 300
    log.say("w", progressed(1, 150, 250))
    assert log.port.bytes == 400
    log.say("w", closed(1, 160, 260))
    assert log.port.bytes == 420


def test_a_listener_that_opened_has_all_its_series_at_zero() -> None:
    log = Log()
    log.say("p", e.ListenerOpened(1.0, 80, "0.0.0.0"))
    assert log.port == Port(owner="p")
    assert (log.active, log.backends) == (0, set())


def test_a_deployer_that_started_has_the_series_of_its_app_at_zero() -> None:
    log = Log()
    log.say("d", started("deployer:web"), app="_")
    assert log.app == App(deployer=1, desired=0)


def test_backends_are_those_that_at_least_one_live_instance_sends_new_connections_to() -> None:
    log = Log()
    for worker in ("w1", "w2"):
        log.say(worker, e.BackendJoined(1.0, 80, "a", ":1"), e.BackendJoined(1.0, 80, "b", ":2"))
    assert log.backends == {"a", "b"}
    log.say("w1", e.BackendLeft(1.0, 80, "a"), e.BackendEjected(1.0, 80, "b", "refused"))
    assert log.backends == {"a", "b"}
    log.say("w2", e.BackendLeft(1.0, 80, "a"))
    assert log.backends == {"b"}
    log.say("w2", e.ServiceStopped(2.0, "stopped"))
    assert log.backends == set()
    log.say("w1", e.BackendJoined(1.0, 80, "b", ":2"))
    assert log.backends == {"b"}


def test_a_stopped_instance_closes_what_it_had_open_and_its_totals_stay() -> None:
    log = Log()
    log.say("w", started("proxy-worker", "m"), accepted(1), progressed(1, 5, 5))
    log.say("w", e.ServiceStopped(2.0, "killed by signal 9"))
    assert (log.active, log.port.connections, log.port.bytes) == (0, 1, 10)


def test_a_new_instance_of_a_unit_ends_the_old_one_and_its_children() -> None:
    log = Log()
    log.say("m1", started("proxy:80"), e.BackendJoined(1.0, 80, "a", ":1"))
    log.say("w1", started("proxy-worker", "m1"), accepted(1))
    log.say("w2", started("proxy-worker", "m1"), accepted(1), accepted(2))
    assert log.active == 3
    log.say("m2", started("proxy:80"))
    assert (log.active, log.backends) == (0, set())
    assert {one.id for one in log.state.running()} == {"m2"}


def test_workers_of_one_master_live_side_by_side() -> None:
    log = Log()
    log.say("m", started("proxy:80"))
    for worker in ("w1", "w2"):
        log.say(worker, started("proxy-worker", "m"), accepted(1))
    assert log.active == 2


def test_the_same_unit_on_another_host_is_another_one() -> None:
    log = Log()
    log.say("m1", started("proxy:80"))
    apply_batch(log.state, Batch("proxy", "elsewhere", "_", "m2", 1, [started("proxy:80")]))
    assert {one.id for one in log.state.running()} == {"m1", "m2"}


def test_a_child_that_appears_after_its_parent_ended_has_ended_too() -> None:
    log = Log()
    log.say("m", started("proxy:80"))
    log.say("m", e.ServiceStopped(1.0, "stopped"))
    log.say("w", started("proxy-worker", "m"), accepted(1))
    assert log.active == 0


def test_dropped_events_are_counted_by_host_and_service_from_zero_on() -> None:
    log = Log()
    log.say("m", started("proxy:80"), app="_")
    assert log.state.dropped == {("host", "proxy"): 0}
    log.say("m", e.EventsDropped(1.0, 7), app="_")
    log.say("m", e.EventsDropped(1.0, 5), app="_")
    assert log.state.dropped == {("host", "proxy"): 12}


def test_a_deployment_counts_when_it_ended() -> None:
    log = Log()
    log.say(
        "d", e.DeploymentStarted(1.0, "1", "v1", previous="", by="registry", strategy="rolling", replicas=2, trace="")
    )
    assert (log.app.deployments, log.app.deployment_errors, log.app.deployment_duration.count) == (0, 0, 0)
    log.say("d", e.DeploymentSucceeded(9.0, "1", "v1", 8.0))
    log.say("d", e.DeploymentFailed(20.0, "2", "v2", phase="pull", reason="not found", duration=0.5))
    assert (log.app.deployments, log.app.deployment_errors) == (1, 1)
    assert (log.app.deployment_duration.count, log.app.deployment_duration.sum) == (2, 8.5)


def test_health_checks_and_their_failures_are_counted() -> None:
    log = Log()
    log.say("h", e.HealthChecked(1.0, "r", True, 0.1), e.HealthChecked(2.0, "r", False, 0.1, "timeout"))
    assert (log.app.healthchecks, log.app.healthcheck_failures) == (2, 1)


def test_replicas_are_those_that_run_and_an_adoption_may_be_repeated() -> None:
    log = Log()
    log.say(
        "d1",
        e.ReplicaStarted(1.0, "1", "a", release="v1", address=":1"),
        e.ReplicaStarted(1.0, "1", "b", release="v1", address=":2"),
    )
    log.say(
        "d2",
        e.ReplicaAdopted(2.0, replica="a", release="v1", address=":1"),
        e.ReplicaAdopted(2.0, replica="a", release="v1", address=":1"),
    )
    assert len(log.app.running) == 2
    log.say("d2", e.ReplicaExited(3.0, "b", "v1", 1), e.ReplicaDraining(3.0, "1", "b"))
    log.say("d2", e.ReplicaRetired(3.0, "1", "a", reason="stopped"), e.ReplicaRetired(3.0, "1", "a", reason="stopped"))
    assert log.app.running == []


def test_replicas_outlive_their_deployer() -> None:
    log = Log()
    log.say("d", started("deployer:web"), e.ReplicaStarted(1.0, "1", "a", release="v1", address=":1"))
    log.say("d", e.ServiceStopped(2.0, "stopped"))
    assert len(log.app.running) == 1


def test_the_fold_loads_nothing_that_could_do_io() -> None:
    code = "import sys, services.metrics_gateway.fold.apply; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "services.metrics_gateway.state.state" in loaded
    assert set(loaded).isdisjoint({"asyncio", "socket", "nats", "opentelemetry", "prometheus_client", "structlog"})


@pytest.mark.parametrize("story", [succeeded(), failed()], ids=["succeeded", "failed"])
def test_what_a_deployer_tells_again_after_a_crash_counts_once(story: list[e.AnyEvent]) -> None:
    once, twice = Log(), Log()
    for log in (once, twice):
        log.say("deployer-1", *story)
    told = (e.DeploymentStarted, e.DeploymentSucceeded, e.DeploymentFailed, e.DeploymentRolledBack)
    twice.say("deployer-2", *(event for event in story if isinstance(event, told)))
    (first,), (second,) = once.state.apps.values(), twice.state.apps.values()
    assert (second.deployments, second.deployment_errors, second.rollbacks, second.failures, second.history) == (
        first.deployments,
        first.deployment_errors,
        first.rollbacks,
        first.failures,
        first.history,
    )
    assert second.deployment_duration.count == first.deployment_duration.count == 1
    assert twice.state.tracing.finished == once.state.tracing.finished
    assert not twice.state.tracing.open
