"""Deployments: what was delivered, how long it took, and the outcome."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import APP, Limit, Query, graph, grown, listing, number, quantile, quantiles, rate, total

PHASE = "longshore_deployment_phase_duration_seconds"


def _in_range(metric: str, legend: str) -> Query:
    return Query(f"sum{grown(metric, APP, '$__range')}", legend)


NOW = Row(
    "In the time range",
    [
        number("Deployments", "That succeeded.", "short", _in_range("dewy_deployments_total", "succeeded"), decimals=0),
        number(
            "Failed deployments",
            "Failed pulls included.",
            "short",
            _in_range("dewy_deployment_errors_total", "failed"),
            limit=Limit(1, 3),
            decimals=0,
        ),
        number(
            "Rollbacks",
            "Deployments that failed and were undone. One by `longshore rollback` is a deployment like any other.",
            "short",
            _in_range("longshore_deployment_rollbacks_total", "rolled back"),
            limit=Limit(1, 3),
            decimals=0,
        ),
        number(
            "Running now",
            "Deployments in progress.",
            "short",
            Query(f"sum(longshore_deployment_running{APP})", "running"),
            decimals=0,
        ),
        number(
            "Paused",
            "Applications whose deployments are paused: continue with `longshore resume`.",
            "short",
            Query(f"sum(longshore_deployments_paused{APP})", "paused"),
            limit=Limit(1, 99),
            decimals=0,
        ),
        number(
            "Registry failures in a row",
            "0 when the last look at the registry went well.",
            "short",
            Query(f"max(longshore_registry_failing{APP})", "in a row"),
            limit=Limit(1, 5),
            decimals=0,
        ),
    ],
)

COURSE = Row(
    "Deployments",
    [
        graph(
            "Deployment duration",
            "Including the pull, for successes and failures. The dots lead to the deployment's trace.",
            "s",
            quantiles("dewy_deployment_duration_seconds", APP),
        ),
        graph(
            "Where the time goes",
            "Seconds a deployment spends in each phase, on average over all of the time range. What is done for each"
            " replica (start, check, route, drain, stop) is added up over its replicas, also where they overlap.",
            "s",
            [
                Query(
                    f"sum by (phase) {grown(f'{PHASE}_sum', APP, '$__range')} / on () group_left ()"
                    f" sum{grown('dewy_deployment_duration_seconds_count', APP, '$__range')}",
                    "{{phase}}",
                )
            ],
            stacked=True,
        ),
        graph(
            "Failures by phase",
            "In the time range: what failed, and in which phase.",
            "short",
            [
                Query(
                    f"sum by (app, phase) {grown('longshore_deployment_failures_total', APP, '$__range')}",
                    "{{app}} {{phase}}",
                )
            ],
            width=8,
        ),
        graph(
            "Registry failures a second",
            "Polls of the registry that failed.",
            "cps",
            [rate("longshore_registry_failures_total", APP, "app")],
            width=8,
        ),
        graph(
            "Quarantine",
            "Releases that failed and are not deployed again until `longshore retry`.",
            "short",
            [total("longshore_releases_quarantined", APP, "app")],
            width=8,
        ),
    ],
)

REPLICAS = Row(
    "Replicas",
    [
        graph(
            "Replicas",
            "Replicas that should run, that run, and that pass their health checks.",
            "short",
            [
                total("dewy_container_desired_replicas", APP, "app", "{{app}} desired"),
                total("dewy_container_replicas", APP, "app", "{{app}} running"),
                total("longshore_replicas_healthy", APP, "app", "{{app}} healthy"),
            ],
        ),
        graph(
            "Restarts",
            "How often each replica was started again, or one in its place.",
            "short",
            [Query(f"max by (app, replica) (longshore_replica_restarts_total{APP})", "{{app}} {{replica}}")],
        ),
        graph(
            "Age",
            "Time since each replica was started.",
            "s",
            [
                Query(
                    f"time() - max by (app, replica) (dewy_container_started_timestamp_seconds{APP})",
                    "{{app}} {{replica}}",
                )
            ],
        ),
        graph(
            "Health checks a second",
            "All probes, and failed ones.",
            "cps",
            [
                rate("dewy_healthchecks_total", APP, "app", "{{app}} made"),
                rate("dewy_healthchecks_failures_total", APP, "app", "{{app}} failed"),
            ],
        ),
        graph(
            "Health check duration, p95",
            "A probe that nears its timeout will fail soon.",
            "s",
            [quantile(0.95, "longshore_healthcheck_duration_seconds", APP, "app")],
        ),
        graph(
            "How replicas end",
            "In the time range: replicas that ended by themselves, by reason.",
            "short",
            [
                Query(
                    f"sum by (app, reason) {grown('longshore_replica_exits_total', APP, '$__range')}",
                    "{{app}} {{reason}}",
                )
            ],
        ),
        graph(
            "CPU",
            "Cores that each replica uses.",
            "none",
            [rate("longshore_replica_cpu_seconds_total", APP, "app, container")],
        ),
        graph(
            "Memory",
            "Memory of each replica, and the limit of those that have one.",
            "bytes",
            [
                total("longshore_replica_memory_bytes", APP, "app, container"),
                total("longshore_replica_memory_limit_bytes", APP, "app, container", "{{app}} {{container}} limit"),
            ],
        ),
        graph(
            "Network of containers",
            "Bytes a second that each container receives, and sends (below zero).",
            "Bps",
            [
                rate(
                    "longshore_replica_network_received_bytes_total",
                    APP,
                    "app, container",
                    "{{app}} {{container}} received",
                ),
                rate("longshore_replica_network_sent_bytes_total", APP, "app, container", "{{app}} {{container}} sent"),
            ],
            below_zero="sent",
            width=24,
        ),
        listing(
            "What runs",
            "Every replica with its release.",
            Query(
                f'dewy_container_info{APP} and on (app, host, container) dewy_container_status{{state="running"}} == 1',
                "{{app}}",
            ),
        ),
    ],
)

DEPLOYMENTS = Board(
    "deployments",
    "Longshore / Deployments",
    "Releases from the registry to traffic, and the replicas that run them.",
    [NOW, COURSE, REPLICAS],
)
