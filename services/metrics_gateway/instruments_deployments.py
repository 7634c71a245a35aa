"""What the events of the deployers tell."""

from __future__ import annotations

from services.metrics_gateway.histogram import DEPLOYMENT_DURATION, PHASE_DURATION
from services.metrics_gateway.instrument import PER_APP, Instrument, Section, per_app, per_app_and, per_known_app

DEPLOYMENTS = Section(
    "Deployments",
    (
        Instrument(
            "dewy.deployments.total",
            "dewy_deployments_total",
            "counter",
            "{deployment}",
            "Deployments that succeeded",
            PER_APP,
            per_app(lambda app: app.deployments),
        ),
        Instrument(
            "dewy.deployment.duration",
            "dewy_deployment_duration_seconds",
            "histogram",
            "s",
            "Time that a deployment took, the pull included, whether it succeeded or failed",
            PER_APP,
            per_app(lambda app: app.deployment_duration),
            buckets=DEPLOYMENT_DURATION,
        ),
        Instrument(
            "dewy.deployment.errors.total",
            "dewy_deployment_errors_total",
            "counter",
            "{error}",
            "Deployments that failed, failed pulls included",
            PER_APP,
            per_app(lambda app: app.deployment_errors),
        ),
        Instrument(
            "longshore.deployment.phase.duration",
            "longshore_deployment_phase_duration_seconds",
            "histogram",
            "s",
            "Time that each step of a deployment took: resolve and pull once, start, check, route, drain and stop for "
            "each replica",
            ("phase", *PER_APP),
            per_app_and(lambda app: app.phases),
            buckets=PHASE_DURATION,
        ),
        Instrument(
            "longshore.deployment.failures",
            "longshore_deployment_failures_total",
            "counter",
            "{deployment}",
            "Deployments that failed, by the phase in which they did: hook, pull, start, check, route, drain",
            ("phase", *PER_APP),
            per_app_and(lambda app: app.failures),
        ),
        Instrument(
            "longshore.deployment.rollbacks",
            "longshore_deployment_rollbacks_total",
            "counter",
            "{deployment}",
            "Failed deployments whose replicas are gone again",
            PER_APP,
            per_app(lambda app: app.rollbacks),
        ),
        Instrument(
            "longshore.deployment.running",
            "longshore_deployment_running",
            "gauge",
            "",
            "1 while a deployment is under way",
            PER_APP,
            per_known_app(lambda app: int(app.is_deploying)),
        ),
        Instrument(
            "longshore.deployments.paused",
            "longshore_deployments_paused",
            "gauge",
            "",
            "1 while new releases wait until deployments are resumed",
            PER_APP,
            per_known_app(lambda app: int(app.paused)),
        ),
        Instrument(
            "longshore.releases.quarantined",
            "longshore_releases_quarantined",
            "updowncounter",
            "{release}",
            "Releases that failed and are not tried again until somebody says so",
            PER_APP,
            per_known_app(lambda app: len(app.quarantined)),
        ),
        Instrument(
            "longshore.registry.failures",
            "longshore_registry_failures_total",
            "counter",
            "{failure}",
            "Looks at the registry that failed",
            PER_APP,
            per_app(lambda app: app.registry_failures),
        ),
        Instrument(
            "longshore.registry.failing",
            "longshore_registry_failing",
            "gauge",
            "{failure}",
            "Looks at the registry that failed in a row until now; 0 while it can be read",
            PER_APP,
            per_known_app(lambda app: app.streak),
        ),
    ),
)
