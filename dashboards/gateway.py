"""The health of the other dashboards' numbers, and the cost of Longshore itself."""

from __future__ import annotations

from dashboards.board import Board, Row
from dashboards.panels import Limit, Query, graph, number, quantile, rate, total

HOST = '{host=~"$host"}'

TRUST = Row(
    "Can the numbers be trusted?",
    [
        number(
            "Behind",
            "Messages of the log that are not in the numbers yet.",
            "short",
            Query("sum(longshore_gateway_pending_messages)", "messages"),
            limit=Limit(1000, 100000),
            decimals=0,
        ),
        number(
            "Age",
            "Time since the newest message in these numbers was stored. A few seconds is normal.",
            "s",
            Query("max(longshore_gateway_state_age_seconds)", "age"),
            limit=Limit(15, 60),
        ),
        number(
            "Missing batches",
            "Anything but 0 means that numbers are too low.",
            "short",
            Query("sum(longshore_gateway_batches_missing)", "batches"),
            limit=Limit(1, 10),
            decimals=0,
        ),
        number(
            "Events dropped",
            "By services that were cut off from the bus for too long, or whose spool was full.",
            "short",
            Query("sum(longshore_events_dropped_total) or vector(0)", "events"),
            limit=Limit(1, 1000),
            decimals=0,
        ),
        number(
            "Bus",
            "1 while the gateway is connected to the bus.",
            "short",
            Query("min(longshore_bus_connected)", "connected"),
            limit=Limit(1, 0.5, falling=True),
            decimals=0,
        ),
        number(
            "Last snapshot",
            "Age of the state that a restarted gateway would begin with.",
            "s",
            Query("max(longshore_gateway_snapshot_age_seconds)", "age"),
            limit=Limit(60, 600),
        ),
    ],
)

EVENTS = Row(
    "Events",
    [
        graph(
            "Events a second",
            "Events folded into the numbers.",
            "cps",
            [Query("sum(rate(longshore_gateway_events_total[$__rate_interval]))", "events")],
        ),
        graph(
            "Fold speed",
            "Events folded in a second of work: how fast a gateway could catch up.",
            "cps",
            [
                Query(
                    "sum(rate(longshore_gateway_events_total[$__rate_interval]))"
                    " / sum(rate(longshore_gateway_fold_seconds_total[$__rate_interval]))",
                    "events a second of work",
                )
            ],
        ),
        graph(
            "Event lag, p99",
            "From the moment that something happened to the moment that the bus stored it, by service.",
            "s",
            [quantile(0.99, "longshore_event_lag_seconds", "", "service", exemplars=False)],
        ),
        graph(
            "Spool",
            "Events on disk that wait for the bus, by service.",
            "bytes",
            [total("longshore_spool_size_bytes", HOST, "service, host")],
        ),
        graph(
            "Spooled batches",
            "Batches of events that wait for the bus, by service.",
            "short",
            [total("longshore_spool_batches", HOST, "service, host")],
        ),
        graph(
            "Skipped",
            "Batches that came again or cannot be read, and unknown events, a second. Repeats do no harm.",
            "cps",
            [
                Query("sum(rate(longshore_gateway_batches_repeated_total[$__rate_interval]))", "repeated"),
                Query("sum(rate(longshore_gateway_batches_undecodable_total[$__rate_interval]))", "undecodable"),
                Query("sum(rate(longshore_gateway_events_unknown_total[$__rate_interval]))", "unknown events"),
            ],
        ),
    ],
)

PROCESSES = Row(
    "Processes",
    [
        graph(
            "Memory",
            "Resident memory of every process of Longshore.",
            "bytes",
            [total("longshore_process_memory_bytes", HOST, "unit, host")],
            stacked=True,
        ),
        graph(
            "CPU",
            "Cores that every process of Longshore uses.",
            "short",
            [rate("longshore_process_cpu_seconds_total", HOST, "unit, host")],
            stacked=True,
        ),
        graph(
            "Loop lag",
            "How late the event loop of each process runs. Above a tenth of a second the process is overloaded.",
            "s",
            [Query(f"max by (unit, host) (longshore_process_loop_lag_seconds{HOST})", "{{unit}} {{host}}")],
            limit=Limit(0.1, 1),
        ),
        graph(
            "OTLP pushes a second",
            "Pushes to the collector, by result. The scrape of /metrics does not count.",
            "cps",
            [Query("sum by (result) (rate(longshore_otlp_exports_total[$__rate_interval]))", "{{result}}")],
        ),
    ],
)

GATEWAY = Board(
    "gateway",
    "Longshore / Events and gateway",
    "The event log, the gateway that folds it into these numbers, and the processes of Longshore.",
    [TRUST, EVENTS, PROCESSES],
    ("host",),
)
