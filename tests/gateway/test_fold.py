"""What the fold makes of events: the meanings of the metrics."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold import HANDLERS, HORIZON, apply, apply_batch
from services.metrics_gateway.fold_service import ENDED_KEPT
from services.metrics_gateway.instrument import backends, open_connections
from services.metrics_gateway.state import App, Port, State

KEY = ("host", "web", 80)


class Log:
    """A state, and the batches of several instances on their way into it."""

    def __init__(self) -> None:
        self.state = State()
        self._sequences: dict[str, int] = {}

    def say(self, instance: str, *events: e.AnyEvent, app: str = "web", sequence: int = 0) -> bool:
        number = sequence or self._sequences.get(instance, 0) + 1
        self._sequences[instance] = number
        return apply_batch(self.state, Batch("proxy", "host", app, instance, number, list(events)))

    @property
    def port(self) -> Port:
        return self.state.ports[KEY]

    @property
    def app(self) -> App:
        return self.state.apps["host", "web"]

    @property
    def active(self) -> int:
        return open_connections(self.state)[KEY]

    @property
    def backends(self) -> set[str]:
        return set(backends(self.state)[KEY])


def accepted(connection: int) -> e.ConnectionAccepted:
    return e.ConnectionAccepted(1.0, connection, 80)


def established(connection: int, latency: float = 0.004) -> e.ConnectionEstablished:
    return e.ConnectionEstablished(1.0, connection, 80, "b", latency, 1)


def progressed(connection: int, bytes_in: int, bytes_out: int) -> e.ConnectionProgressed:
    return e.ConnectionProgressed(1.0, connection, 80, bytes_in, bytes_out)


def closed(connection: int, bytes_in: int = 10, bytes_out: int = 20, duration: float = 0.5) -> e.ConnectionClosed:
    return e.ConnectionClosed(1.0, connection, 80, "b", bytes_in, bytes_out, duration, "eof")


def started(unit: str, parent: str = "") -> e.ServiceStarted:
    return e.ServiceStarted(1.0, unit, "1", 1, parent)


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
    log.say("w", accepted(1), e.ConnectionRefused(1.0, 1, 80, "no_backend", 10.0))
    assert (log.port.errors, log.active, log.port.duration.count, log.port.duration.sum) == (1, 0, 1, 10.0)


def test_failed_dials_count_in_the_connect_latency_but_are_no_errors_as_long_as_another_backend_answers() -> None:
    log = Log()
    log.say("w", accepted(1), e.DialFailed(1.0, 1, 80, "b", 2.0, "timeout"), established(1, 0.004))
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
    assert log.port == Port()
    assert (log.active, log.backends) == (0, set())


def test_a_deployer_that_started_has_the_series_of_its_app_at_zero() -> None:
    log = Log()
    log.say("d", started("deployer:web"), app="_")
    assert log.app == App()


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
    assert {one.id for one in log.state.live()} == {"m2"}


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
    assert {one.id for one in log.state.live()} == {"m1", "m2"}


def test_a_start_that_comes_late_does_not_end_the_successor() -> None:
    log = Log()
    log.say("m1", e.ListenerOpened(1.0, 80, ""), sequence=2)
    log.say("m2", started("proxy:80"))
    log.say("m1", started("proxy:80"), sequence=1)
    assert {one.id for one in log.state.live()} == {"m2"}


def test_a_child_that_appears_after_its_parent_ended_has_ended_too() -> None:
    log = Log()
    log.say("m", started("proxy:80"))
    log.say("m", e.ServiceStopped(1.0, "stopped"))
    log.say("w", started("proxy-worker", "m"), accepted(1))
    assert log.active == 0


def test_a_repeated_batch_changes_nothing_but_its_own_count() -> None:
    log = Log()
    assert log.say("w", accepted(1), sequence=1)
    assert not log.say("w", accepted(1), sequence=1)
    assert (log.port.connections, log.state.repeated, log.state.events) == (1, 1, 1)


def test_a_late_batch_is_applied_once_and_leaves_no_gap() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    log.say("w", accepted(3), sequence=3)
    assert log.state.missing() == 1
    log.say("w", accepted(2), sequence=2)
    log.say("w", accepted(2), sequence=2)
    assert (log.port.connections, log.state.late, log.state.repeated, log.state.missing()) == (3, 1, 1, 0)


def test_a_close_that_overtakes_its_accept_leaves_nothing_open() -> None:
    log = Log()
    log.say("w", closed(1, 500, 0), sequence=3)
    log.say("w", progressed(1, 300, 0), sequence=2)
    log.say("w", accepted(1), sequence=1)
    assert (log.active, log.port.bytes, log.port.connections) == (0, 500, 1)


def test_what_a_later_batch_said_of_a_backend_stands() -> None:
    log = Log()
    log.say("w", e.BackendLeft(1.0, 80, "a"), sequence=2)
    log.say("w", e.BackendJoined(1.0, 80, "a", ":1"), sequence=1)
    assert log.backends == set()
    log.say("w", e.BackendJoined(1.0, 80, "a", ":1"), sequence=3)
    assert log.backends == {"a"}


def test_what_is_kept_for_late_batches_is_forgotten_when_none_is_missing() -> None:
    log = Log()
    log.say("w", closed(1), e.ReplicaRetired(1.0, "d", "r", "replaced"), sequence=2)
    log.say("w", accepted(1), sequence=1)
    instance = log.state.instances["w"]
    assert (instance.positions, instance.missing, instance.listeners["web", 80].closed) == ({}, set(), {})
    assert log.app.replicas == {}


def test_a_gap_is_not_waited_for_for_ever_but_stays_counted() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    for sequence in range(3, HORIZON + 10):
        log.say("w", closed(sequence), sequence=sequence)
    instance = log.state.instances["w"]
    assert (log.state.missing(), instance.missing, instance.positions) == (1, set(), {})
    assert instance.listeners["web", 80].closed == {}
    assert not log.say("w", accepted(2), sequence=2)


def test_a_gap_of_millions_takes_no_more_room_than_the_horizon() -> None:
    log = Log()
    log.say("w", accepted(1), sequence=1)
    log.say("w", accepted(2), sequence=5_000_000)
    assert len(log.state.instances["w"].missing) == HORIZON
    assert log.state.missing() == 5_000_000 - 2


def test_what_a_log_lost_by_age_before_its_first_message_is_not_called_missing() -> None:
    state = State()
    for position, sequence in ((900, 40), (901, 42)):
        apply(state, position, 1.0, codec.encode(Batch("proxy", "host", "web", "w", sequence, [accepted(sequence)])))
    assert state.missing() == 1


def test_dropped_events_are_counted_by_host_and_service_from_zero_on() -> None:
    log = Log()
    log.say("m", started("proxy:80"), app="_")
    assert log.state.dropped == {("host", "proxy"): 0}
    log.say("m", e.EventsDropped(1.0, 7), app="_")
    log.say("m", e.EventsDropped(1.0, 5), app="_")
    assert log.state.dropped == {("host", "proxy"): 12}


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xc1", b"\x93abc", b"[" * 5000, bytes(range(256)) * 40])
def test_a_message_that_is_no_batch_is_counted_and_harms_nothing(payload: bytes) -> None:
    state = State()
    apply(state, 5, 2.0, payload)
    assert (state.undecodable, state.position, state.time, state.events) == (1, 5, 2.0, 0)


def test_events_of_a_newer_version_are_skipped_and_counted() -> None:
    newer = codec._encoder.encode(["proxy", "host", "web", "w", 1, [[9999, 1.0, "?"], [12, 1.0, 1, 80]]])
    state = State()
    apply(state, 1, 1.0, newer)
    apply(state, 2, 1.0, newer)
    assert (state.unknown, state.ports[KEY].connections, state.repeated) == (1, 1, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_impossible_duration_is_counted_and_not_added(value: float) -> None:
    log = Log()
    log.say("w", accepted(1), established(1, value), closed(1, duration=value))
    assert (log.state.malformed, log.state.events) == (2, 1)
    assert (log.port.latency.count, log.port.duration.sum, log.active) == (0, 0.0, 0)


def test_a_deployment_counts_when_it_ended() -> None:
    log = Log()
    log.say("d", e.DeploymentStarted(1.0, "1", "v1", "", "registry", "rolling", 2, ""))
    assert (log.app.deployments, log.app.deployment_errors, log.app.deployment_duration.count) == (0, 0, 0)
    log.say("d", e.DeploymentSucceeded(9.0, "1", "v1", 8.0))
    log.say("d", e.DeploymentFailed(20.0, "2", "v2", "pull", "not found", 0.5))
    assert (log.app.deployments, log.app.deployment_errors) == (1, 1)
    assert (log.app.deployment_duration.count, log.app.deployment_duration.sum) == (2, 8.5)


def test_health_checks_and_their_failures_are_counted() -> None:
    log = Log()
    log.say("h", e.HealthChecked(1.0, "r", True, 0.1), e.HealthChecked(2.0, "r", False, 0.1, "timeout"))
    assert (log.app.healthchecks, log.app.healthcheck_failures) == (2, 1)


def test_replicas_are_those_that_run_and_an_adoption_may_be_repeated() -> None:
    log = Log()
    log.say("d1", e.ReplicaStarted(1.0, "1", "a", "v1", ":1"), e.ReplicaStarted(1.0, "1", "b", "v1", ":2"))
    log.say("d2", e.ReplicaAdopted(2.0, "a", "v1", ":1"), e.ReplicaAdopted(2.0, "a", "v1", ":1"))
    assert len(log.app.running) == 2
    log.say("d2", e.ReplicaExited(3.0, "b", "v1", 1), e.ReplicaDraining(3.0, "1", "b"))
    log.say("d2", e.ReplicaRetired(3.0, "1", "a", "stopped"), e.ReplicaRetired(3.0, "1", "a", "stopped"))
    assert log.app.running == []


def test_replicas_outlive_their_deployer() -> None:
    log = Log()
    log.say("d", started("deployer:web"), e.ReplicaStarted(1.0, "1", "a", "v1", ":1"))
    log.say("d", e.ServiceStopped(2.0, "stopped"))
    assert len(log.app.running) == 1


def test_ended_instances_are_remembered_up_to_a_limit() -> None:
    log = Log()
    for n in range(ENDED_KEPT + 50):
        log.say(f"m{n}", started("proxy:80"), sequence=2)
    assert len(log.state.instances) == ENDED_KEPT + 1
    assert log.state.missing() == ENDED_KEPT + 50
    assert next(log.state.live()).id == f"m{ENDED_KEPT + 49}"


def test_the_fold_loads_nothing_that_could_do_io() -> None:
    code = "import sys, services.metrics_gateway.fold; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "services.metrics_gateway.state" in loaded
    assert set(loaded).isdisjoint({"asyncio", "socket", "nats", "opentelemetry", "prometheus_client", "structlog"})
