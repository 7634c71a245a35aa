"""Panels in a common style, and their queries."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

import msgspec
from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

METRICS = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that is picked at the top of the dashboard: no Grafana gives two of them the same uid."""
PORT = '{app=~"$app", host=~"$host", proxy_port=~"$proxy_port"}'
APP = '{app=~"$app", host=~"$host"}'
QUANTILES = (0.5, 0.95, 0.99)

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel


class Query(msgspec.Struct, frozen=True):
    """A PromQL expression, and how its series are called."""

    expr: str
    legend: str
    exemplars: bool = False


class Limit(msgspec.Struct, frozen=True):
    """Where a value turns yellow and red; the other way round when `falling`."""

    warning: float
    critical: float
    falling: bool = False


def rate(metric: str, labels: str, by: str, legend: str = "") -> Query:
    """Return a counter's rate per second, summed by labels."""
    return Query(f"sum by ({by}) (rate({metric}{labels}[$__rate_interval]))", legend or _legend(by))


def grown(metric: str, labels: str, window: str) -> str:
    """Return the growth of a counter of the event log in a window: a whole number, for each series.

    This is not increase(): these counters go back, and not to zero, when a gateway folds a log again that has lost its
    beginning. PromQL takes that for a reset, and the whole remaining sum for growth.
    """
    return f"({metric}{labels} - min_over_time({metric}{labels}[{window}]))"


def total(metric: str, labels: str, by: str, legend: str = "") -> Query:
    """Return a gauge, summed by labels."""
    return Query(f"sum by ({by}) ({metric}{labels})", legend or _legend(by))


def quantiles(metric: str, labels: str, by: str = "") -> list[Query]:
    """Return the median, p95 and p99 of a histogram, with its exemplars once."""
    return [quantile(one, metric, labels, by, exemplars=one == QUANTILES[-1]) for one in QUANTILES]


def quantile(share: float, metric: str, labels: str, by: str = "", *, exemplars: bool = True) -> Query:
    """Return one quantile of a histogram."""
    groups = f"le, {by}" if by else "le"
    expr = f"histogram_quantile({share:g}, sum by ({groups}) (rate({metric}_bucket{labels}[$__rate_interval])))"
    return Query(expr, " ".join(filter(None, [f"p{share * 100:g}", by and _legend(by)])), exemplars)


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    below_zero: str = "",
    limit: Limit | None = None,
    width: int = 12,
) -> timeseries.Panel:
    """Return a graph of lines over time; the series named `below_zero` are drawn downwards."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(METRICS)
        .unit(unit)
        .height(8)
        .span(width)
        .line_width(2)
        .fill_opacity(30 if stacked else 10)
        .gradient_mode(shapes.GraphGradientMode.OPACITY)
        .show_points(shapes.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .tooltip(_tooltip())
        .legend(_legend_table())
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if below_zero:
        panel.override_by_regexp(f"/(^| ){below_zero}$/", [DynamicConfigValue("custom.transform", "negative-Y")])
    if limit:
        panel.thresholds(_thresholds(limit))
        style = common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    for query, name in zip(queries, ascii_uppercase, strict=False):
        panel.with_target(_target(query).ref_id(name))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    limit: Limit | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """Return a panel with one number and its recent course in the background."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(METRICS)
        .unit(unit)
        .height(4)
        .span(4)
        .no_value("-")
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(limit))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel.with_target(_target(query))


def heat(title: str, description: str, metric: str, labels: str) -> heatmap.Panel:
    """Return a heatmap of a histogram in seconds."""
    panel = (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(METRICS)
        .height(8)
        .span(12)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .show_legend()
    )
    query = Query(f"sum by (le) (increase({metric}_bucket{labels}[$__rate_interval]))", "{{le}}", exemplars=True)
    return panel.with_target(_target(query).format(PromQueryFormat.HEATMAP))


def listing(title: str, description: str, query: Query) -> table.Panel:
    """Return a table with the labels of the present series, a row each."""
    panel = table.Panel().title(title).description(description).datasource(METRICS).height(8).span(24)
    target = _target(query).format(PromQueryFormat.TABLE).instant()
    return panel.with_target(target)


def _target(query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(METRICS)
        .expr(query.expr)
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        .range()
        .ref_id("A")
    )


def _thresholds(limit: Limit | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if limit:
        colors = ("red", "yellow", "green") if limit.falling else ("green", "yellow", "red")
        values = (None, *sorted((limit.warning, limit.critical)))
        steps = [Threshold(value=value, color=color) for value, color in zip(values, colors, strict=True)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING)


def _legend_table() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(shapes.LegendDisplayMode.TABLE)
        .placement(shapes.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
