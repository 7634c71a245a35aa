"""What lasts for an application: a pin, a pause, a quarantine, a registry that fails, each with its beginning."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.state.application import Pin, Problem
from services.metrics_gateway.views.deployments import deployments
from services.metrics_gateway.views.status import LogStatus, status
from tests.metrics_gateway.timeline import Timeline

LOG = LogStatus(1, 0, True, 0.0, True)


def told(*said: e.AnyEvent) -> Timeline:
    timeline = Timeline()
    started = e.ServiceStarted(1.0, "deployer:web", "1", 7)
    for event in (started, *said):
        timeline.say("d", event, service="deployer")
    return timeline


def test_a_pin_lasts_until_deployments_are_resumed() -> None:
    timeline = told(e.ReleasePinned(5.0, "1.0.0", "ann"))
    assert timeline.app.pinned == Pin(5.0, "1.0.0", "ann")
    timeline.restart()
    (shown,) = status(timeline.state, LOG, "1").apps
    assert shown.pinned
    assert (shown.pinned.release, shown.pinned.since, shown.pinned.by) == (
        "1.0.0",
        "1970-01-01T00:00:05.000+00:00",
        "ann",
    )
    timeline.say("d", e.DeploymentsResumed(6.0, "ann"))
    assert status(timeline.state, LOG, "1").apps[0].pinned is None


def test_a_deployment_of_the_newest_release_ends_the_pin() -> None:
    assert told(e.ReleasePinned(5.0, "1.0.0", "ann"), e.ReleasePinned(6.0, "", "bob")).app.pinned is None


def test_a_pause_and_a_quarantine_say_since_when() -> None:
    timeline = told(e.DeploymentsPaused(5.0, "ann"), e.ReleaseQuarantined(7.0, "2.0.0", "it crashed"))
    (shown,) = status(timeline.state, LOG, "1").apps
    assert (shown.paused, shown.paused_since) == (True, "1970-01-01T00:00:05.000+00:00")
    assert shown.quarantined_since == {"2.0.0": "1970-01-01T00:00:07.000+00:00"}
    timeline.say("d", e.DeploymentsResumed(8.0, "ann"), e.QuarantineLifted(9.0, "2.0.0", "ann"))
    (shown,) = status(timeline.state, LOG, "1").apps
    assert (shown.paused_since, shown.quarantined_since) == (None, {})


def test_a_registry_fails_since_its_first_failure_with_its_last_reason() -> None:
    timeline = told(e.RegistryFailed(5.0, "dir:///srv", "gone", 1), e.RegistryFailed(9.0, "dir:///srv", "still", 2))
    assert timeline.app.registry_error == Problem(5.0, "still")
    (shown,) = status(timeline.state, LOG, "1").apps
    assert shown.registry_error
    assert (shown.registry_error.failures, shown.registry_error.reason) == (2, "still")
    timeline.say("d", e.RegistryRecovered(10.0, "dir:///srv", 2))
    assert status(timeline.state, LOG, "1").apps[0].registry_error is None


def test_a_deployment_that_was_undone_has_the_result_that_history_prints() -> None:
    started = e.DeploymentStarted(
        2.0, "d-1", "2", previous="1", by="ann", strategy="rolling", replicas=1, trace="0" * 32
    )
    failed = e.DeploymentFailed(3.0, "d-1", "2", phase="check", reason="no answer", duration=1.0)
    timeline = told(started, failed)
    (one,) = deployments(timeline.state, "", 9).deployments
    assert (one.result, one.outcome, one.phase) == ("failed", "failed", "check")
    timeline.say("d", e.DeploymentRolledBack(4.0, "d-1", "2", "1"))
    (one,) = deployments(timeline.state, "", 9).deployments
    assert (one.result, one.outcome, one.phase, one.failed_phase) == ("rolled back", "failed", "check", "check")
    last = status(timeline.state, LOG, "1").apps[0].last_deployment
    assert last
    assert (last.result, last.phase) == ("rolled back", "check")
