"""What the fold makes of the events of a deployer: an application's deployments and replicas."""

from __future__ import annotations

import pytest

from schemas import events as e
from services.metrics_gateway.state.application import DEPLOYMENTS_KEPT, App, Deployment, Exit, Replica
from services.metrics_gateway.state.histogram import Histogram
from tests.metrics_gateway.events import Log, started
from tests.metrics_gateway.traces.story import failed, succeeded

RUNS = e.ReplicaStarted(2.0, "1", "r", release="v1", address=":1", pid=7, slot=0, duration=0.5)


def begins(deployment: str = "1", release: str = "v1", replicas: int = 1) -> e.DeploymentStarted:
    return e.DeploymentStarted(
        1.0, deployment, release, previous="", by="registry", strategy="rolling", replicas=replicas, trace=""
    )


def observed(histogram: Histogram) -> tuple[int, float]:
    return sum(histogram.counts), histogram.nanoseconds / 1e9


def folded(*events: e.AnyEvent) -> Log:
    log = Log()
    log.say("d", *events)
    return log


# --- deployments ---


def test_a_deployment_that_succeeds_is_recorded_with_all_that_was_told_of_it() -> None:
    app = folded(*succeeded("1")).app
    assert app.deployment == Deployment(
        "1", "2.0.0", "1.0.0", "alice", "rolling", 1, 1000.0, 1009.0, 9.0, outcome="succeeded"
    )
    assert (app.release, app.desired, app.deployments, app.deployment_errors) == ("2.0.0", 1, 1, 0)
    assert observed(app.deployment_duration) == (1, 9.0)


def test_a_deployment_that_fails_and_is_undone_is_recorded_with_the_reason() -> None:
    app = folded(*failed("1")).app
    assert app.deployment == Deployment(
        "1",
        "3.0.0",
        "2.0.0",
        "registry",
        "rolling",
        1,
        2000.0,
        2030.0,
        30.0,
        "failed",
        "check",
        "answers 500",
        "2.0.0",
    )
    assert (app.release, app.deployments, app.deployment_errors, app.rollbacks) == ("2.0.0", 0, 1, 1)
    assert app.failures == {**App().failures, "check": 1}
    assert observed(app.deployment_duration) == (1, 30.0)


def test_each_part_of_a_deployment_has_its_duration() -> None:
    phases = folded(*succeeded("1")).app.phases
    expected = {"resolve": 0.5, "pull": 2.0, "start": 0.75, "check": 2.0, "route": 0.25, "drain": 2.0, "stop": 1.0}
    assert {phase: observed(histogram) for phase, histogram in phases.items()} == {
        phase: (1, seconds) for phase, seconds in expected.items()
    }


def test_what_belongs_to_no_deployment_or_took_no_known_time_is_no_part_of_one() -> None:
    log = folded(e.ImagePulled(1.0, "", "v1", 2.0), e.ImagePulled(1.0, "1", "v1", 0.0))
    assert observed(log.state.new(App).phases["pull"]) == (0, 0.0)
    assert all(observed(phase) == (0, 0.0) for app in log.state.apps.values() for phase in app.phases.values())


def test_the_last_deployments_are_kept_oldest_first() -> None:
    log = folded(*(begins(str(number)) for number in range(DEPLOYMENTS_KEPT + 3)))
    assert log.app.deployment == Deployment("52", "v1", "", "registry", "rolling", 1, 1.0)
    assert [one.id for one in log.app.history] == [str(number) for number in range(2, DEPLOYMENTS_KEPT + 2)]


def test_the_end_of_a_deployment_that_is_not_the_last_one_is_told_of_that_one() -> None:
    log = folded(
        begins("1"), begins("2", "v2"), e.DeploymentFailed(5.0, "1", "v1", phase="check", reason="no", duration=4.0)
    )
    assert [(one.id, one.outcome) for one in log.app.history] == [("1", "failed")]
    assert (log.app.deployment or Deployment("", "")).outcome == "running"


def test_an_event_that_is_no_step_of_a_deployment_counts_each_time() -> None:
    log = folded(begins(), *[e.RegistryFailed(2.0, "dir:///a", "gone", 1)] * 2)
    assert log.app.registry_failures == 2


def test_what_a_deployer_decides_is_true_until_it_decides_otherwise() -> None:
    log = folded(
        e.ScaleSet(1.0, 4),
        e.ReleaseFound(1.0, "v1", "", "dir:///a"),
        e.RegistryFailed(1.0, "dir:///a", "gone", 1),
        e.RegistryFailed(1.0, "dir:///a", "gone", 2),
        e.ReleaseQuarantined(1.0, "v1", "answers 500"),
        e.DeploymentsPaused(1.0, "alice"),
    )
    app = log.app
    assert (app.desired, app.registry, app.registry_failures, app.streak) == (4, "dir:///a", 2, 2)
    assert (app.quarantined, app.paused) == ({"v1": "answers 500"}, True)
    log.say("d", e.RegistryRecovered(2.0, "dir:///a", 2), e.QuarantineLifted(2.0, "v1", "alice"))
    log.say("d", e.QuarantineLifted(2.0, "v9", "alice"), e.DeploymentsResumed(2.0, "alice"))
    assert (app.streak, app.registry_failures, app.quarantined, app.paused) == (0, 2, {}, False)


def test_the_next_deployer_does_not_know_yet_whether_the_registry_fails() -> None:
    log = folded(started("deployer:web"), e.RegistryFailed(1.0, "dir:///a", "gone", 3))
    log.say("d2", started("deployer:web"), app="_")
    assert (log.app.streak, log.app.registry_failures, log.app.deployer) == (0, 1, 2)


def test_the_newest_instance_that_speaks_for_an_app_is_its_deployer() -> None:
    log = folded(RUNS)
    assert log.app.deployer == 1
    log.say("d2", begins())
    log.say("d", e.ReplicaAdopted(3.0, replica="r", release="v1", address=":1"))
    assert log.app.deployer == 2


# --- replicas ---


def test_a_replica_is_recorded_with_all_that_was_told_of_it() -> None:
    log = folded(RUNS)
    assert log.app.replicas == {"r": Replica("r", True, "v1", ":1", 7, 0, 2.0, None, "starting")}
    phases = []
    for event in (
        e.ReplicaReady(3.0, "1", "r", 1.0),
        e.ReplicaRouted(4.0, "1", "r"),
        e.HealthChanged(5.0, "r", True, ""),
        e.ReplicaDraining(6.0, "1", "r"),
    ):
        log.say("d", event)
        phases.append(log.app.replicas["r"].phase)
    assert phases == ["ready", "serving", "serving", "draining"]
    assert log.app.replicas == {"r": Replica("r", True, "v1", ":1", 7, 0, 2.0, 4.0, "draining", True)}
    log.say("d", e.HealthChanged(7.0, "r", False, "timeout"))
    assert log.app.replicas["r"].healthy is False
    log.say("d", e.ReplicaRetired(8.0, "1", "r", reason="replaced"))
    assert log.app.replicas == {}


def test_a_replica_that_is_adopted_is_ready_and_one_that_was_known_stays_as_it_was() -> None:
    log = folded(e.ReplicaAdopted(2.0, replica="a", release="v1", address=":1", pid=7, slot=0))
    assert log.app.replicas == {"a": Replica("a", True, "v1", ":1", 7, 0, None, None, "ready")}
    log.say(
        "d",
        e.ReplicaRouted(3.0, "1", "a"),
        e.ReplicaAdopted(4.0, replica="a", release="v2", address=":2", pid=8, slot=1),
    )
    assert log.app.replicas == {"a": Replica("a", True, "v2", ":2", 8, 1, None, 3.0, "serving")}


def test_an_exit_that_comes_after_the_restart_by_the_engine_is_kept_and_ends_nothing() -> None:
    log = folded(RUNS)
    log.say("d", e.ReplicaStarted(4.0, "", "r", release="v1", address=":1", slot=0, replaces=True), sequence=3)
    log.say("d", e.ReplicaExited(3.0, "r", "v1", 137, True), sequence=2)
    assert log.app.replicas["r"].exit == Exit(137, True)
    assert [one.id for one in log.app.running] == ["r"]


def test_starts_in_the_place_of_one_that_failed_are_counted_by_slot() -> None:
    starts = [
        e.ReplicaStarted(1.0, deployment, f"r{n}", release="v1", address=":1", slot=slot, replaces=replaces)
        for n, (deployment, slot, replaces) in enumerate(
            [("", 0, True), ("", 0, False), ("1", 0, True), ("1", 0, False), ("", 1, False), ("", -1, True)]
        )
    ]
    assert folded(RUNS, *starts).app.starts == {0: 2}


def test_starts_outside_of_a_deployment_are_counted_by_slot_in_logs_of_older_programs() -> None:
    outside = [
        e.ReplicaStarted(1.0, "", f"r{slot}", release="v1", address=":1", pid=7, slot=slot) for slot in (0, 0, 1, -1)
    ]
    assert folded(RUNS, *outside).app.starts == {0: 2, 1: 1}


@pytest.mark.parametrize(
    ("code", "oom", "reason"),
    [
        (0, False, "finished"),
        (1, False, "error"),
        (-1, False, "signal"),
        (-9, True, "oom"),
        (137, True, "oom"),
        (-1000, False, "unseen"),
    ],
)
def test_a_replica_that_ends_by_itself_is_counted_by_how(code: int, oom: bool, reason: str) -> None:
    app = folded(RUNS, e.ReplicaExited(3.0, "r", "v1", code, oom)).app
    assert app.exits == {**App().exits, reason: 1}
    assert (app.running, app.replicas["r"].exit, app.replicas["r"].exited) == ([], Exit(code, oom), 0.0)


def test_a_replica_that_starts_again_under_its_name_has_not_exited() -> None:
    replica = folded(RUNS, e.ReplicaExited(3.0, "r", "v1", 1), RUNS).app.replicas["r"]
    assert (replica.running, replica.exited, replica.exit) == (True, None, Exit(1, False))


def test_what_is_said_of_a_replica_that_was_not_started_makes_none() -> None:
    log = folded(
        e.ReplicaReady(3.0, "1", "r", 1.0),
        e.ReplicaRouted(4.0, "1", "r"),
        e.ReplicaDraining(5.0, "1", "r"),
        e.ReplicaExited(6.0, "r", "v1", 1),
        e.ReplicaRetired(7.0, "1", "r", reason="replaced"),
        e.HealthChanged(8.0, "r", True, ""),
    )
    assert (log.app.replicas, log.app.exits["error"], log.state.malformed) == ({}, 1, 0)


def test_a_health_check_has_a_duration() -> None:
    passed = e.HealthChecked(1.0, "r", True, 0.25)
    app = folded(passed, passed, e.HealthChecked(1.0, "r", False, 0.5, "timeout")).app
    assert observed(app.healthcheck_duration) == (3, 1.0)
    assert (app.healthchecks, app.healthcheck_failures) == (3, 1)


# --- order ---

PAUSED, RESUMED = e.DeploymentsPaused(1.0, "a"), e.DeploymentsResumed(2.0, "a")
BAD, GOOD = e.ReleaseQuarantined(1.0, "v1", "no"), e.QuarantineLifted(2.0, "v1", "a")
FAILS, ANSWERS = e.RegistryFailed(1.0, "dir:///a", "gone", 3), e.RegistryRecovered(2.0, "dir:///a", 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (e.ScaleSet(1.0, 2), e.ScaleSet(2.0, 5)),
        (begins(replicas=2), e.ScaleSet(2.0, 5)),
        (e.ScaleSet(1.0, 5), begins(replicas=2)),
        (e.ReleaseFound(1.0, "v1", "", "dir:///a"), e.ReleaseFound(1.0, "v1", "", "dir:///b")),
        (FAILS, ANSWERS),
        (ANSWERS, FAILS),
        (PAUSED, RESUMED),
        (RESUMED, PAUSED),
        (BAD, GOOD),
        (GOOD, BAD),
        (begins("1"), begins("2", "v2")),
        (e.DeploymentSucceeded(1.0, "1", "v1", 1.0), e.DeploymentSucceeded(2.0, "2", "v2", 1.0)),
        (e.DeploymentSucceeded(1.0, "2", "v2", 1.0), e.DeploymentRolledBack(2.0, "3", "v3", "v1")),
        (e.DeploymentRolledBack(1.0, "3", "v3", "v1"), e.DeploymentSucceeded(2.0, "2", "v2", 1.0)),
        (RUNS, e.ReplicaExited(3.0, "r", "v1", 1)),
        (RUNS, e.ReplicaRetired(3.0, "1", "r", reason="replaced")),
        (RUNS, e.ReplicaDraining(3.0, "1", "r")),
        (RUNS, e.ReplicaRouted(3.0, "1", "r")),
        (e.ReplicaExited(1.0, "r", "v1", 1), RUNS),
        (
            e.ReplicaExited(1.0, "old", "v0", 137, True),
            e.ReplicaStarted(2.0, "", "old", release="v0", address=":0", pid=7, slot=0, replaces=True),
        ),
        (e.ReplicaExited(1.0, "old", "v0", 1), e.ReplicaExited(2.0, "old", "v0", 2)),
        (e.ReplicaReady(1.0, "1", "old", 1.0), e.ReplicaDraining(2.0, "1", "old")),
        (e.ReplicaRouted(1.0, "1", "old"), e.ReplicaRouted(2.0, "1", "old")),
        (e.ReplicaExited(1.0, "old", "v0", 1), e.ReplicaRetired(2.0, "1", "old", reason="replaced")),
        (e.HealthChanged(1.0, "old", True, ""), e.HealthChanged(2.0, "old", False, "timeout")),
    ],
)
def test_what_a_later_batch_said_stands_when_an_earlier_one_comes_late(first: e.AnyEvent, second: e.AnyEvent) -> None:
    logs = [Log(), Log()]
    for log, order in zip(logs, ([2, 3], [3, 2]), strict=True):
        log.say(
            "d",
            started("deployer:web"),
            e.ReplicaStarted(0.0, "0", "old", release="v0", address=":0", pid=6, slot=0),
            sequence=1,
        )
        for sequence in order:
            log.say("d", first if sequence == 2 else second, sequence=sequence)
    in_time, late = logs
    assert late.app == in_time.app
    assert (late.state.instances["d"].positions, late.state.late) == ({}, 1)


@pytest.mark.parametrize("story", [succeeded(), failed()], ids=["succeeded", "failed"])
def test_a_deployment_whose_batches_come_in_another_order_is_traced_as_one_in_time(story: list[e.AnyEvent]) -> None:
    logs = [Log(), Log()]
    numbered = list(enumerate(story, 2))
    for log, batches in zip(logs, (numbered, numbered[::-1]), strict=True):
        log.say("d", started("deployer:web"), sequence=1)
        for sequence, event in batches:
            log.say("d", event, sequence=sequence)
    in_time, late = logs
    told = [sorted(log.state.tracing.finished, key=lambda span: span.id) for log in (in_time, late)]
    assert told[0] == told[1] != []
    assert not late.state.tracing.open
