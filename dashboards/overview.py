"""Is it well? One look at everything."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import APP, PORT, Limit, Query, graph, grown, number, quantile, quantiles, rate, total

ERROR_RATIO = (
    f"sum(rate(dewy_proxy_errors_total{PORT}[$__rate_interval]))"
    f" / clamp_min(sum(rate(dewy_proxy_connections_total{PORT}[$__rate_interval])), 1e-9)"
)

NOW = Row(
    "Now",
    [
        number(
            "Replicas missing",
            "Replicas that should run and do not, of each application; a surplus in one does not offset another.",
            "short",
            Query(f"sum(clamp_min(dewy_container_desired_replicas{APP} - dewy_container_replicas{APP}, 0))", "missing"),
            limit=Limit(1, 2),
            decimals=0,
        ),
        number(
            "Ports without a backend",
            "Proxy ports that nothing serves: their clients wait, then are refused.",
            "short",
            Query(f"count(dewy_proxy_backends{PORT} == 0) or vector(0)", "ports"),
            limit=Limit(1, 1),
            decimals=0,
        ),
        number(
            "Errors",
            "Share of the connections that found no backend, or none that could be reached.",
            "percentunit",
            Query(ERROR_RATIO, "errors"),
            limit=Limit(0.001, 0.01),
        ),
        number(
            "Connect latency, p99",
            "Time to establish the connection to a backend; one in a hundred takes longer.",
            "s",
            quantile(0.99, "dewy_proxy_connect_latency_seconds", PORT, exemplars=False),
            limit=Limit(0.1, 0.5),
        ),
        number(
            "Failed deployments",
            "In the shown time range.",
            "short",
            Query(f"sum{grown('dewy_deployment_errors_total', APP, '$__range')}", "failed"),
            limit=Limit(1, 3),
            decimals=0,
        ),
        number(
            "Quarantined releases",
            "Releases that failed and are not deployed again until `longshore retry`.",
            "short",
            Query(f"sum(longshore_releases_quarantined{APP})", "quarantined"),
            limit=Limit(1, 2),
            decimals=0,
        ),
    ],
)

TRAFFIC = Row(
    "Traffic",
    [
        graph(
            "Connections a second",
            "New client connections, by application.",
            "cps",
            [rate("dewy_proxy_connections_total", PORT, "app")],
        ),
        graph(
            "Open connections",
            "Accepted and not yet closed, by application.",
            "short",
            [total("dewy_proxy_connections_active", PORT, "app")],
        ),
        graph(
            "Throughput",
            "Bytes from clients (in, upwards) and to them (out, downwards).",
            "Bps",
            [rate("longshore_proxy_bytes_total", PORT, "direction")],
            below_zero="out",
        ),
        graph(
            "Connect latency",
            "Time to establish the connection to a backend. The dots lead to traces.",
            "s",
            quantiles("dewy_proxy_connect_latency_seconds", PORT),
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
            "Failed health checks a second",
            "Probes that failed, by application.",
            "cps",
            [rate("dewy_healthchecks_failures_total", APP, "app")],
        ),
    ],
)

OVERVIEW = Board(
    "overview",
    "Longshore / Overview",
    "Whether everything that Longshore delivers is well. Marks: deployments, failures, rollbacks.",
    [NOW, TRAFFIC, REPLICAS],
    ("app", "host", "proxy_port"),
)
