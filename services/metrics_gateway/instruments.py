"""The catalogue: every metric that the gateway gives, one row each. Both exporters and the reference page read it."""

from __future__ import annotations

from services.metrics_gateway.instrument import (
    PER_APP,
    PER_PORT,
    Instrument,
    Section,
    per_app,
    per_port,
    read_backends,
    read_build,
    read_dropped,
    read_open_connections,
    read_otlp_exports,
    single,
)
from services.metrics_gateway.state import CONNECT_LATENCY, CONNECTION_DURATION, DEPLOYMENT_DURATION

PROXY = Section(
    "Proxy",
    (
        Instrument(
            "dewy.proxy.connections.total",
            "dewy_proxy_connections_total",
            "counter",
            "{connection}",
            "Client connections accepted, counted before a backend is picked",
            PER_PORT,
            per_port(lambda port: port.connections),
        ),
        Instrument(
            "dewy.proxy.connections.active",
            "dewy_proxy_connections_active",
            "updowncounter",
            "{connection}",
            "Client connections accepted and not yet closed",
            PER_PORT,
            read_open_connections,
        ),
        Instrument(
            "dewy.proxy.connection.duration",
            "dewy_proxy_connection_duration_seconds",
            "histogram",
            "s",
            "Time from accept to close of a client connection, failed ones included",
            PER_PORT,
            per_port(lambda port: port.duration),
            buckets=CONNECTION_DURATION,
        ),
        Instrument(
            "dewy.proxy.connect.latency",
            "dewy_proxy_connect_latency_seconds",
            "histogram",
            "s",
            "Time to establish the connection to a backend, failed attempts included",
            PER_PORT,
            per_port(lambda port: port.latency),
            buckets=CONNECT_LATENCY,
            aliases=("dewy_proxy_connect_latency",),
        ),
        Instrument(
            "dewy.proxy.bytes.transferred",
            "dewy_proxy_bytes_transferred_total",
            "counter",
            "By",
            "Bytes through the proxy, both directions; open connections included as they go on",
            PER_PORT,
            per_port(lambda port: port.bytes),
        ),
        Instrument(
            "dewy.proxy.errors.total",
            "dewy_proxy_errors_total",
            "counter",
            "{error}",
            "Client connections that found no backend, or none that could be reached",
            PER_PORT,
            per_port(lambda port: port.errors),
        ),
        Instrument(
            "dewy.proxy.backends",
            "dewy_proxy_backends",
            "updowncounter",
            "{backend}",
            "Backends that take new connections now",
            PER_PORT,
            read_backends,
        ),
    ),
)

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
    ),
)

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
            per_app(lambda app: len(app.running)),
        ),
    ),
)

GATEWAY = Section(
    "Longshore itself",
    (
        Instrument(
            "longshore.gateway.events",
            "longshore_gateway_events_total",
            "counter",
            "{event}",
            "Events of the log that these numbers are made of",
            (),
            single(lambda moment: moment.state.events),
        ),
        Instrument(
            "longshore.gateway.events.unknown",
            "longshore_gateway_events_unknown_total",
            "counter",
            "{event}",
            "Events skipped: of a kind that this version does not know, or with an impossible value",
            (),
            single(lambda moment: moment.state.unknown + moment.state.malformed),
        ),
        Instrument(
            "longshore.gateway.batches.undecodable",
            "longshore_gateway_batches_undecodable_total",
            "counter",
            "{batch}",
            "Messages of the log that are no batch of events",
            (),
            single(lambda moment: moment.state.undecodable),
        ),
        Instrument(
            "longshore.gateway.batches.repeated",
            "longshore_gateway_batches_repeated_total",
            "counter",
            "{batch}",
            "Batches that came again and were skipped",
            (),
            single(lambda moment: moment.state.repeated),
        ),
        Instrument(
            "longshore.gateway.batches.late",
            "longshore_gateway_batches_late_total",
            "counter",
            "{batch}",
            "Batches that came after a later one of their instance, and were applied",
            (),
            single(lambda moment: moment.state.late),
        ),
        Instrument(
            "longshore.gateway.batches.missing",
            "longshore_gateway_batches_missing",
            "updowncounter",
            "{batch}",
            "Batches that never came, or not yet: anything but 0 means that numbers are too low",
            (),
            single(lambda moment: moment.state.missing()),
        ),
        Instrument(
            "longshore.events.dropped",
            "longshore_events_dropped_total",
            "counter",
            "{event}",
            "Events that a service had to drop because the bus was away for too long",
            ("service", "host"),
            read_dropped,
        ),
        Instrument(
            "longshore.gateway.state.age",
            "longshore_gateway_state_age_seconds",
            "gauge",
            "s",
            "Time since the newest message of the log that these numbers contain was stored",
            (),
            single(lambda moment: max(0.0, moment.now - moment.state.time)),
        ),
        Instrument(
            "longshore.bus.connected",
            "longshore_bus_connected",
            "gauge",
            "",
            "1 while the gateway is connected to the bus; otherwise these numbers are those of the state's age",
            (),
            single(lambda moment: int(moment.bus_connected)),
        ),
        Instrument(
            "longshore.otlp.exports",
            "longshore_otlp_exports_total",
            "counter",
            "{export}",
            "Pushes to the OTLP endpoint, by result: success or failure",
            ("result",),
            read_otlp_exports,
        ),
        Instrument(
            "longshore.build.info",
            "longshore_build_info",
            "gauge",
            "",
            "Always 1; the label says which version runs",
            ("version",),
            read_build,
        ),
    ),
)

SECTIONS = (PROXY, DEPLOYMENTS, HEALTH, CONTAINERS, GATEWAY)
INSTRUMENTS = tuple(instrument for section in SECTIONS for instrument in section.instruments)
