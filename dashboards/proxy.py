"""What clients and backends see."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import PORT, Limit, Query, graph, heat, quantile, quantiles, rate, total

CLIENTS = Row(
    "Clients",
    [
        graph(
            "Connections a second",
            "Client connections accepted, counted before a backend is picked.",
            "cps",
            [rate("dewy_proxy_connections_total", PORT, "app, proxy_port")],
        ),
        graph(
            "Open connections",
            "Accepted and not yet closed.",
            "short",
            [total("dewy_proxy_connections_active", PORT, "app, proxy_port")],
        ),
        graph(
            "Throughput",
            "Bytes from clients (in, upwards) and to them (out, downwards). Open connections count while they run.",
            "Bps",
            [rate("longshore_proxy_bytes_total", PORT, "app, direction")],
            below_zero="out",
        ),
        graph(
            "Errors a second",
            "Connections that found no backend, or none that could be reached, by reason.",
            "cps",
            [rate("longshore_proxy_errors_total", PORT, "app, reason")],
            limit=Limit(0.1, 1),
        ),
        graph(
            "Connection duration",
            "From accept to close, failed connections too. The dots lead to traces.",
            "s",
            quantiles("dewy_proxy_connection_duration_seconds", PORT),
        ),
        heat(
            "Connection duration, spread",
            "How long connections took. Two bands are two kinds of clients.",
            "dewy_proxy_connection_duration_seconds",
            PORT,
        ),
        graph(
            "How connections end",
            "Connections closed a second, by reason.",
            "cps",
            [rate("longshore_proxy_connections_closed_total", PORT, "reason")],
            stacked=True,
            width=8,
        ),
        graph(
            "Time on hold, p95",
            "How long connections waited until there was a backend, or until they were refused.",
            "s",
            [quantile(0.95, "longshore_proxy_hold_duration_seconds", PORT, "app")],
            width=8,
        ),
        graph(
            "Connections cut a second",
            "Open connections of a retired replica that were closed when the drain time was over.",
            "cps",
            [rate("longshore_proxy_connections_cut_total", PORT, "app")],
            width=8,
        ),
    ],
)

BACKENDS = Row(
    "Backends",
    [
        graph(
            "Backends",
            "Backends that take new connections now.",
            "short",
            [total("dewy_proxy_backends", PORT, "app, proxy_port")],
            limit=Limit(1, 0.5, falling=True),
        ),
        graph(
            "Connect latency",
            "Time to establish the connection to a backend, failed attempts too. The dots lead to traces.",
            "s",
            quantiles("dewy_proxy_connect_latency_seconds", PORT),
            limit=Limit(0.1, 0.5),
        ),
        graph(
            "Connections a second by backend",
            "How evenly the load is spread.",
            "cps",
            [rate("longshore_proxy_backend_connections_total", PORT, "backend")],
            stacked=True,
        ),
        graph(
            "Open connections by backend",
            "A backend that drains keeps its own until they end.",
            "short",
            [total("longshore_proxy_backend_connections_active", PORT, "backend")],
            stacked=True,
        ),
        graph(
            "Connect latency by backend, p99",
            "One that stands out is slow, or far away.",
            "s",
            [quantile(0.99, "longshore_proxy_backend_connect_latency_seconds", PORT, "backend")],
        ),
        graph(
            "Failed dials and ejections",
            "Dials that failed, by backend and reason, and backends ejected after that, a second.",
            "cps",
            [
                rate("longshore_proxy_backend_dial_failures_total", PORT, "backend, reason"),
                rate("longshore_proxy_ejections_total", PORT, "backend", "{{backend}} ejected"),
            ],
        ),
        graph(
            "Share of errors",
            "Errors over connections, by application: the ratio of the alert on errors.",
            "percentunit",
            [
                Query(
                    f"sum by (app) (rate(dewy_proxy_errors_total{PORT}[$__rate_interval]))"
                    f" / clamp_min(sum by (app) (rate(dewy_proxy_connections_total{PORT}[$__rate_interval])), 1e-9)",
                    "{{app}}",
                )
            ],
            limit=Limit(0.001, 0.01),
            width=24,
        ),
    ],
)

PROXY = Board(
    "proxy",
    "Longshore / Proxy",
    "Connections from accept to close, and the backends behind them.",
    [CLIENTS, BACKENDS],
    ("app", "host", "proxy_port"),
)
