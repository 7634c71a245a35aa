"""The alert rules, written once for Prometheus and for Grafana."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dashboards.panels import grown


class Alert(msgspec.Struct, frozen=True):
    """A rule. `expr` yields a series for each problem; `minutes` is how long the problem must last."""

    name: str
    expr: str
    minutes: int
    severity: Literal["critical", "warning"]
    summary: str
    runbook: str


FEW = 10
"""Connections that may fail in five minutes: one in a quiet night is not an incident, whatever its share."""

REMEMBERED = "1d"
"""The time for which a missing gateway raises the alert. Afterwards it counts as removed. The gateway
reports silent units for the same time."""


def _failed_connections(metric: str) -> str:
    return f"max by (app, host, proxy_port) {grown(metric, '', '5m')}"


ALERTS = (
    Alert(
        "LongshoreNoBackend",
        "min by (app, host, proxy_port) (dewy_proxy_backends) == 0"
        " unless on (app, host) max by (app, host) (dewy_container_desired_replicas) == 0",
        1,
        "critical",
        "Nothing serves {{ $labels.app }} on port {{ $labels.proxy_port }} of {{ $labels.host }}",
        "Clients wait for --hold seconds, then the proxy refuses them. `longshore status` shows which replicas run and"
        " why they are not healthy; `longshore history` the last deployments. Roll back with `longshore rollback`.",
    ),
    Alert(
        "LongshoreErrorRatio",
        f"{_failed_connections('dewy_proxy_errors_total')} / {_failed_connections('dewy_proxy_connections_total')}"
        f" > 0.01 and {_failed_connections('dewy_proxy_errors_total')} >= {FEW}",
        5,
        "critical",
        "{{ $value | humanizePercentage }} of the connections to {{ $labels.app }} on {{ $labels.host }} fail",
        "Connections find no backend, or none that can be reached. The panels `Errors a second` and `Failed dials and"
        " ejections` of the proxy's dashboard name the reason and the backend.",
    ),
    Alert(
        "LongshoreConnectLatency",
        "histogram_quantile(0.99, sum by (app, host, proxy_port, le)"
        " (rate(dewy_proxy_connect_latency_seconds_bucket[5m]))) > 0.25",
        10,
        "warning",
        "One connection in a hundred to {{ $labels.app }} on {{ $labels.host }} takes over"
        " {{ $value | humanizeDuration }} to reach a backend",
        "Backends accept slowly: their listen queue is full, or the host is short of CPU. `Connect latency by backend`"
        " of the proxy's dashboard shows whether it is one or all of them. Add replicas, or replace the slow one.",
    ),
    Alert(
        "LongshoreReplicasMissing",
        "min by (app, host) (dewy_container_replicas < dewy_container_desired_replicas)"
        " unless on (app, host) longshore_deployment_running == 1",
        5,
        "warning",
        "{{ $labels.app }} on {{ $labels.host }} runs {{ $value }} replicas, fewer than it should",
        "Replicas died and were not replaced. `longshore events` says how they ended, and the deployer's log why no"
        " new one starts: no memory, no image, a port that is taken, or paused deployments (`longshore resume`).",
    ),
    Alert(
        "LongshoreDeploymentFailing",
        f"max by (app, host) {grown('dewy_deployment_errors_total', '', '15m')} > 0"
        " or max by (app, host) (longshore_registry_failing) > 4",
        0,
        "warning",
        "Deployments of {{ $labels.app }} on {{ $labels.host }} fail",
        "The release before goes on serving. `longshore history` names the release, the phase and the reason. A release"
        " that failed is in quarantine: publish a newer one, or `longshore retry` when the reason is gone. When polls"
        " of the registry fail, check its address, the credentials and the network.",
    ),
    Alert(
        "LongshoreRestartLoop",
        "max by (app, host, replica) (longshore_replica_restarts_total)"
        " - min_over_time((max by (app, host, replica) (longshore_replica_restarts_total))[15m:1m]) > 3",
        0,
        "warning",
        "A replica of {{ $labels.app }} on {{ $labels.host }} restarted {{ $value | humanize }} times in 15 minutes",
        "It starts and dies. Its last exit code and whether it ran out of memory are in"
        " `dewy_container_last_terminated_exit_code` and `dewy_container_oom_killed`;"
        " its last lines are in the event ReplicaExited (`longshore events`), and more of them in"
        " `longshore logs --previous`. Roll back with `longshore rollback`.",
    ),
    Alert(
        "LongshoreUnitSilent",
        'min by (service, host) (max without (unit) (longshore_unit_up{service!="deployer"})) == 0'
        ' or min by (service, host, unit) (longshore_unit_up{service="deployer"}) == 0',
        1,
        "warning",
        "{{ $labels.service }} on {{ $labels.host }} has not published for a minute",
        "It is dead, it hangs, or its host is cut off from the bus or gone. What it does is unknown: a proxy cut"
        " off goes on serving. Look at the host and its log; `longshore status` shows its last known state. A host that"
        " was removed for good disappears after a day.",
    ),
    Alert(
        "LongshoreSpoolFilling",
        "max by (service, host) (sum without (unit) (longshore_spool_size_bytes)) > 16777216",
        5,
        "warning",
        "{{ $value | humanize1024 }}B of events of {{ $labels.service }} on {{ $labels.host }} wait for the bus",
        "The bus takes events more slowly than they come. Look at the log of nats-server and at its disk. Traffic goes"
        " on; of a spool that is full the oldest events are dropped and counted in `longshore_events_dropped_total`.",
    ),
    Alert(
        "LongshoreLogStopped",
        "longshore_gateway_state_age_seconds > 60 unless longshore_gateway_pending_messages > 10000",
        1,
        "critical",
        "Nothing reached the event log for {{ $value | humanizeDuration }}, says {{ $labels.instance }}",
        "Every service writes every five seconds: the bus is away, it refuses to store, or this gateway is cut off from"
        " it (`longshore_bus_connected`). Traffic goes on. Events wait in the spools, which fill up meanwhile; of one"
        " that is full the oldest are dropped. Look at the log of nats-server and at the space on its disk.",
    ),
    Alert(
        "LongshoreGatewayBehind",
        "longshore_gateway_pending_messages > 10000",
        5,
        "warning",
        "The numbers of {{ $labels.instance }} are behind the event log",
        "`Fold speed` of the gateway's dashboard says how fast it catches up. Until then every other number is old.",
    ),
    Alert(
        "LongshoreGatewayMissing",
        'group by (job, instance) (up{job="longshore"} == 0) or (group by (job, instance)'
        f" (max_over_time(longshore_build_info[{REMEMBERED}])) unless on (job, instance) longshore_build_info)",
        2,
        "warning",
        "No metrics come from the gateway {{ $labels.instance }}",
        "The gateway or its host is dead, or cannot be reached; with a bus of its own, nothing is known of that host."
        " Check that it runs (`curl http://localhost:17539/healthz/ready`), with --telemetry. One that was removed for"
        " good disappears after a day.",
    ),
    Alert(
        "LongshoreScrapeMissing",
        "absent(longshore_build_info)",
        2,
        "critical",
        "No metrics come from Longshore",
        "Check that a gateway runs (`curl http://localhost:17539/healthz/ready`), with --telemetry, and that Prometheus"
        " scrapes its address. When metrics are pushed, look at the collector's log.",
    ),
)


def prometheus() -> str:
    """Return the rule file of Prometheus, which vmalert reads too."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": f"{alert.minutes}m",
            "labels": {"severity": alert.severity},
            "annotations": _annotations(alert),
        }
        for alert in ALERTS
    ]
    return _yaml({"groups": [{"name": "longshore", "rules": rules}]})


def grafana() -> str:
    """Return the same rules for Grafana's own alerting, which asks the data source `metrics`."""
    group = {"orgId": 1, "name": "longshore", "folder": "Longshore", "interval": "1m"}
    rules = [_grafana_rule(alert) for alert in ALERTS]
    return _yaml({"apiVersion": 1, "groups": [group | {"rules": rules}]})


def _grafana_rule(alert: Alert) -> dict[str, Any]:
    return {
        "uid": alert.name.lower(),
        "title": alert.name,
        "condition": "wrong",
        "data": [_query(alert.expr), _any_sample()],
        "for": f"{alert.minutes}m",
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": {"severity": alert.severity},
        "annotations": {
            name: text.replace("$value", "$values.query.Value") for name, text in _annotations(alert).items()
        },
    }


def _query(expr: str) -> dict[str, Any]:
    model = {"refId": "query", "expr": expr, "instant": True, "range": False}
    return {
        "refId": "query",
        "datasourceUid": "metrics",
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": model,
    }


def _any_sample() -> dict[str, Any]:
    """Return a condition that is true for every series: the expression yields only problems."""
    condition = "is_number($query) || is_nan($query)"
    return {
        "refId": "wrong",
        "datasourceUid": "__expr__",
        "model": {"refId": "wrong", "type": "math", "expression": condition},
    }


def _annotations(alert: Alert) -> dict[str, str]:
    return {"summary": alert.summary, "runbook": alert.runbook}


def _yaml(value: object) -> str:
    return f"# Generated by `make dashboards`: do not edit.\n{msgspec.yaml.encode(value).decode()}"
