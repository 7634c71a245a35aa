"""The metrics of replicas: their health, and how they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from schemas.events import UNSEEN
from services.metrics_gateway.instruments.instrument import (
    PER_APP,
    Instrument,
    Labels,
    Measurement,
    Read,
    Section,
    Value,
    app_labels,
    label,
    per_app,
    per_app_and,
    per_known_app,
)
from services.metrics_gateway.state.application import App, Replica
from services.metrics_gateway.state.histogram import HEALTHCHECK_DURATION

PER_CONTAINER = ("container", "replica", *PER_APP)
STATES = ("created", "running", "paused", "restarting", "exited", "dead")

_IMAGE = "img://"


def per_container(values: Callable[[App, Replica], Iterable[tuple[Labels, Value]]]) -> Read:
    """Read any number of values of each replica that runs or exited lately, their labels before the replica's."""

    def read(measurement: Measurement) -> Iterator[tuple[Labels, Value]]:
        for key, app in measurement.state.apps.items():
            for replica in app.replicas.values() if app.is_known else ():
                if replica.running or replica.exited is not None:
                    own = (label(replica.id), _slot(replica), *app_labels(key))
                    for labels, value in values(app, replica):
                        yield (*labels, *own), value

    return read


def _slot(replica: Replica) -> str:
    return str(replica.slot) if replica.slot >= 0 else ""


def _restarts(replica: Replica) -> int:
    """Return the restarts by the engine. Its own count has those that no deployer watched."""
    return max(replica.restarts, replica.usage.restarts if replica.usage else 0)


def _slots(app: App) -> dict[int, int]:
    """Return the restarts by slot, also of slots without one, so that a rise from 0 is seen."""
    return {replica.slot: 0 for replica in app.running if replica.slot >= 0} | app.starts


def _status(_: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
    now = "running" if replica.running else "exited"
    return (((state,), int(state == now)) for state in STATES)


def _exit_code(_: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
    """Return the exit code as a shell and Docker count it: 128 plus the number of the signal."""
    if replica.exit and replica.exit.code != UNSEEN:
        yield (), replica.exit.code if replica.exit.code >= 0 else 128 - replica.exit.code


def _oom_killed(_: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
    if replica.exit:
        yield (), int(replica.exit.oom)


def _started(_: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
    if replica.started is not None:
        yield (), replica.started


def _info(app: App, replica: Replica) -> Iterator[tuple[Labels, Value]]:
    yield (_image(app, replica), label(replica.release)), 1


def _image(app: App, replica: Replica) -> str:
    """Return the image's name as an engine has it; empty for a release of another kind of registry."""
    repository = app.registry.partition("?")[0]
    return label(f"{repository.removeprefix(_IMAGE)}:{replica.release}") if repository.startswith(_IMAGE) else ""


HEALTH = Section(
    "Health checks",
    (
        Instrument(
            "dewy.healthchecks.total",
            "dewy_healthchecks_total",
            "counter",
            "{check}",
            "Probes of replicas, during a deployment and later",
            PER_APP,
            per_app(lambda app: app.healthchecks),
        ),
        Instrument(
            "dewy.healthchecks.failures.total",
            "dewy_healthchecks_failures_total",
            "counter",
            "{check}",
            "Probes of replicas that failed",
            PER_APP,
            per_app(lambda app: app.healthcheck_failures),
        ),
        Instrument(
            "longshore.healthcheck.duration",
            "longshore_healthcheck_duration_seconds",
            "histogram",
            "s",
            "Time that a probe took, whether it passed or failed",
            PER_APP,
            per_app(lambda app: app.healthcheck_duration),
            buckets=HEALTHCHECK_DURATION,
        ),
        Instrument(
            "longshore.replicas.healthy",
            "longshore_replicas_healthy",
            "updowncounter",
            "{replica}",
            "Replicas that run and pass their health checks",
            PER_APP,
            per_known_app(lambda app: sum(replica.healthy is True for replica in app.running)),
        ),
    ),
)

CONTAINERS = Section(
    "Containers",
    (
        Instrument(
            "dewy.container.replicas",
            "dewy_container_replicas",
            "updowncounter",
            "{replica}",
            "Replicas running now",
            PER_APP,
            per_known_app(lambda app: len(app.running)),
        ),
        Instrument(
            "dewy.container.desired_replicas",
            "dewy_container_desired_replicas",
            "gauge",
            "{replica}",
            "Replicas that should run",
            PER_APP,
            per_known_app(lambda app: app.desired),
        ),
        Instrument(
            "dewy.container.restarts",
            "dewy_container_restarts",
            "gauge",
            "{restart}",
            "Restarts of this container by its engine; a replica that is replaced is another container",
            PER_CONTAINER,
            per_container(lambda _, replica: [((), _restarts(replica))]),
        ),
        Instrument(
            "dewy.container.status",
            "dewy_container_status",
            "gauge",
            "",
            "1 for the state that the container is in, 0 for the others: created, running, paused, restarting, exited, "
            "dead",
            ("state", *PER_CONTAINER),
            per_container(_status),
        ),
        Instrument(
            "dewy.container.last_terminated.exit_code",
            "dewy_container_last_terminated_exit_code",
            "gauge",
            "",
            "Exit status of the container when it last ended by itself, 128 and the signal if one killed it",
            PER_CONTAINER,
            per_container(_exit_code),
        ),
        Instrument(
            "dewy.container.oom_killed",
            "dewy_container_oom_killed",
            "gauge",
            "",
            "1 if the container last ended because it was out of memory, 0 if for another reason",
            PER_CONTAINER,
            per_container(_oom_killed),
        ),
        Instrument(
            "dewy.container.started.timestamp",
            "dewy_container_started_timestamp_seconds",
            "gauge",
            "s",
            "Unix time at which the container was last started, where that is known",
            PER_CONTAINER,
            per_container(_started),
        ),
        Instrument(
            "dewy.container.info",
            "dewy_container_info",
            "gauge",
            "",
            "Always 1; the labels say which image and version the container runs",
            ("image", "version", *PER_CONTAINER),
            per_container(_info),
        ),
        Instrument(
            "longshore.replica.restarts",
            "longshore_replica_restarts_total",
            "counter",
            "{restart}",
            "Starts of a replica because the one in its slot died: by its engine, or a new one in its place",
            ("replica", *PER_APP),
            per_app_and(lambda app: {str(slot): starts for slot, starts in _slots(app).items()}),
        ),
        Instrument(
            "longshore.replica.exits",
            "longshore_replica_exits_total",
            "counter",
            "{exit}",
            "Replicas that ended by themselves, by reason: finished, error (any status but 0), signal, oom, unseen",
            ("reason", *PER_APP),
            per_app_and(lambda app: app.exits),
        ),
    ),
)
