"""The dashboards: generated, complete, and every query has an answer on a live pipeline."""

from __future__ import annotations

import json
import math
import re
import socket
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dashboards.__main__ import BOARDS, FOLDER, files
from dashboards.board import render
from tests.contract.contract import Query, queries
from tests.observability.pipeline import Pipeline
from tests.support.harness import wait_for
from tests.support.stores import SCRAPE_INTERVAL, Series

BUILT: dict[str, dict[str, Any]] = {board.name: json.loads(render(board)) for board in BOARDS}
VALUES = {"$__rate_interval": "4m", "$__range": "10m"}


class Asked(NamedTuple):
    """A query of a panel."""

    panel: str
    expr: str


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def asked() -> list[Asked]:
    return [
        Asked(f"{name}: {panel['title']} {target['refId']}", target["expr"])
        for name, board in BUILT.items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def numbers(series: Series) -> list[float]:
    """The values that a panel could draw."""
    values = [float(one["value"][1]) for one in series]
    return [value for value in values if not math.isnan(value)]


def filled(expr: str) -> str:
    """The query as Grafana sends it, when everything is picked."""
    for name, value in VALUES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$(app|host|proxy_port)\b", ".*", expr)


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_the_committed_file_is_what_the_code_generates(file: Path) -> None:
    assert file.read_text() == files()[file], "run `make dashboards`"


def test_there_is_no_dashboard_that_nobody_generates() -> None:
    assert set((FOLDER / "grafana" / "dashboards").iterdir()) <= set(files())


@pytest.mark.parametrize("name", BUILT)
def test_panels_explain_themselves_and_do_not_overlap(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(BUILT[name]):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["type"] == "table" or "unit" in json.dumps(panel)
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in BUILT[name]["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", BUILT)
def test_a_dashboard_shows_the_last_hour_and_itself_anew_every_five_seconds(name: str) -> None:
    assert (BUILT[name]["time"], BUILT[name]["refresh"]) == ({"from": "now-1h", "to": "now"}, "5s")


@pytest.mark.parametrize("name", BUILT)
def test_every_variable_of_a_query_is_one_of_the_dashboard(name: str) -> None:
    known = {variable["name"] for variable in BUILT[name]["templating"]["list"]}
    annotations = [annotation["expr"] for annotation in BUILT[name]["annotations"]["list"]]
    used = [target["expr"] for panel in panels(BUILT[name]) for target in panel["targets"]]
    assert {word for expr in [*used, *annotations] for word in re.findall(r"\$([a-z]\w*)", expr)} <= known


@pytest.mark.parametrize("name", BUILT)
def test_every_data_source_is_the_one_that_is_picked(name: str) -> None:
    (picked,) = [one for one in BUILT[name]["templating"]["list"] if one["type"] == "datasource"]
    assert (picked["name"], picked["query"]) == ("datasource", "prometheus")
    uids = re.findall(r'"uid": "([^"]*)"', json.dumps({**BUILT[name], "uid": ""}))
    assert set(uids) == {"", "${datasource}"}


def test_latency_histograms_lead_to_traces() -> None:
    with_exemplars = {
        one["expr"]
        for board in BUILT.values()
        for panel in panels(board)
        for one in panel["targets"]
        if one["exemplar"]
    }
    for metric in ("dewy_proxy_connect_latency", "dewy_proxy_connection_duration", "dewy_deployment_duration"):
        assert any(metric in expr for expr in with_exemplars)


OF_CONTAINERS = ("longshore_replica_network_", "longshore_replica_memory_limit_")
"""Series that processes, as the pipeline runs them, may not have; tests of containers and of series have them."""


def is_of_containers(query: Asked) -> bool:
    return any(name in query.expr for name in OF_CONTAINERS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "query", [query for query in asked() if is_of_containers(query)], ids=lambda query: query.panel
)
def test_a_query_about_containers_is_valid(query: Asked, pipeline: Pipeline) -> None:
    assert isinstance(pipeline.prometheus.query(filled(query.expr)), list)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "query", [query for query in asked() if not is_of_containers(query)], ids=lambda query: query.panel
)
def test_the_query_of_every_panel_returns_data(query: Asked, pipeline: Pipeline) -> None:
    expr = filled(query.expr)
    assert "$" not in expr
    wait_for(f"Prometheus answers {expr}", lambda: numbers(pipeline.prometheus.query(expr)))
    for selector in re.findall(r"\b(?:dewy|longshore)_\w+(?:\{[^}]*\})?", expr):  # `or vector(0)` always answers
        wait_for(f"there are series of {selector}", partial(pipeline.prometheus.query, f"count({selector})"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("annotation", BUILT["overview"]["annotations"]["list"], ids=lambda one: one["name"])
def test_the_query_of_every_annotation_has_seen_its_event(annotation: dict[str, Any], pipeline: Pipeline) -> None:
    expr = filled(annotation["expr"])
    assert annotation["step"] in expr
    # As Grafana asks: at many moments, not only now; at every scrape, as two releases may be seconds apart.
    over_time = f"count_over_time(({expr})[10m:{SCRAPE_INTERVAL}])"
    wait_for(f"Prometheus answers {expr}", partial(pipeline.prometheus.query, over_time), 100)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["app", "host", "proxy_port"])
def test_every_variable_has_values(name: str, pipeline: Pipeline) -> None:
    (variable,) = [one for one in BUILT["overview"]["templating"]["list"] if one["name"] == name]
    inner = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
    assert inner
    assert inner[2] == name
    values = {series["metric"].get(name, "") for series in pipeline.prometheus.query(filled(inner[1]))}
    known = {"app": {"web"}, "host": {socket.gethostname()}, "proxy_port": {str(pipeline.server.port)}}
    assert values - {""} == known[name]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", queries(), ids=lambda query: query.expr)
@pytest.mark.parametrize("store", ["prometheus", "victoria_metrics"])
def test_every_query_of_the_reference_document_returns_data(store: str, query: Query, pipeline: Pipeline) -> None:
    wait_for(f"{store} answers {query.expr}", partial(getattr(pipeline, store).query, query.expr))
