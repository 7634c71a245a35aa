"""A dashboard: rows of panels under the same variables, annotations and links."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.panels import APP, METRICS, Panel

TAG = "longshore"
STEP = "60s"
SOURCES = {
    "app": 'label_values({__name__=~"dewy_proxy_connections_total|dewy_deployments_total"}, app)',
    "host": 'label_values({__name__=~"dewy_proxy_connections_total|dewy_deployments_total|longshore_unit_up"}, host)',
    "proxy_port": f"label_values(dewy_proxy_connections_total{APP}, proxy_port)",
}
"""The queries for the values of a variable: each application, host and port, also one that serves nothing or has no
proxy. Counters stay when a gauge has no series."""


class Row(msgspec.Struct, frozen=True):
    """Panels under a title, twenty-four columns wide."""

    title: str
    panels: Sequence[Panel]


class Board(msgspec.Struct, frozen=True):
    """A dashboard. `name` is that of its file, and with the prefix longshore- its uid in Grafana."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[str] = ("app", "host")


class _Annotation(AnnotationQuery):
    """An annotation with text, which the SDK's own lacks."""

    def __init__(self, name: str, color: str, expr: str) -> None:
        super().__init__(name=name, datasource=METRICS, icon_color=color, expr=expr)

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": f"{self.name}: {{{{app}}}}", "tagKeys": "app,host", "step": STEP}


def _mark(name: str, color: str, metric: str) -> _Annotation:
    """Return a mark where a counter has grown in the last step: each event is in exactly one window."""
    grown = f"{metric}{APP} - {metric}{APP} offset {STEP}"
    return _Annotation(name, color, f"sum by (app, host) ({grown}) > 0")


ANNOTATIONS = (
    _mark("Deployed", "green", "dewy_deployments_total"),
    _mark("Deployment failed", "red", "dewy_deployment_errors_total"),
    _mark("Rolled back", "orange", "longshore_deployment_rollbacks_total"),
)


def render(board: Board) -> str:
    """Return the JSON that Grafana provisions."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"longshore-{board.name}")
        .description(board.description)
        .tags([TAG])
        .refresh("5s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_link())
    )
    built.with_variable(_picked_data_source())
    for name in board.variables:
        built.with_variable(_variable(name))
    for row in board.rows:
        built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built.with_panel(panel)
    result = built.build()
    for number, placed in enumerate(result.panels or [], start=1):
        placed.id_val = number
    result.annotations.list_val = list(ANNOTATIONS) if "app" in board.variables else []
    return json.dumps(result, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def _picked_data_source() -> dashboard.DatasourceVariable:
    """Return the choice of a data source: that of the stack in compose/, or the first Prometheus that Grafana has."""
    return (
        dashboard.DatasourceVariable("datasource")
        .label("data source")
        .type("prometheus")
        .current(VariableOption(text="Metrics", value="metrics"))
    )


def _variable(name: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.replace("_", " "))
        .datasource(METRICS)
        .query(SOURCES[name])
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text=["All"], value=["$__all"]))
    )


def _link() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Longshore")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
