"""The alert rules, by promtool, by vmalert, and as Grafana gets them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboards.__main__ import FOLDER
from dashboards.alerts import ALERTS, Alert, grafana
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from tests.observability.cases import CASES, Case
from tests.observability.pipeline import Pipeline
from tests.observability.recorded import SCRAPE, input_series
from tests.support.harness import wait_for

RULES = FOLDER / "alerts.yml"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.play.__name__)
@pytest.mark.parametrize("is_pushed", [False, True], ids=["scraped", "pushed"])
def test_the_alerts_that_must_fire_do_and_no_others(case: Case, is_pushed: bool, tmp_path: Path) -> None:
    """Of what is pushed there is no `up`."""
    used = {name for alert in ALERTS for name in re.findall(r"\b(?:dewy_\w+|longshore_\w+|up)\b", alert.expr)}
    test = {
        "interval": f"{SCRAPE}s",
        "input_series": input_series(case.play(), sorted(used - ({"up"} if is_pushed else set()))),
        "alert_rule_test": [
            check(alert, minute, fired.get(alert.name, []))
            for minute, fired in case.moments.items()
            for alert in ALERTS
        ],
    }
    file = tmp_path / "alerts.test.yml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": f"{SCRAPE}s", "tests": [test]}
    file.write_bytes(msgspec.yaml.encode(content))
    run("promtool", "test", "rules", str(file))


def check(alert: Alert, minute: float, fired: list[tuple[dict[str, str], str]]) -> dict[str, Any]:
    expected = [
        {
            "exp_labels": labels | {"severity": alert.severity},
            "exp_annotations": {"summary": summary, "runbook": alert.runbook},
        }
        for labels, summary in fired
    ]
    return {"alertname": alert.name, "eval_time": f"{int(minute * 60)}s", "exp_alerts": expected}


def test_every_alert_has_a_case_where_it_fires() -> None:
    fired = {name for case in CASES for moment in case.moments.values() for name in moment}
    assert fired == {alert.name for alert in ALERTS}


def test_vmalert_takes_the_same_file() -> None:
    run("vmalert", "-dryRun", f"-rule={RULES}")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_names_metrics_of_the_catalogue_and_says_what_to_do(alert: Any) -> None:
    known = {instrument.prometheus for instrument in INSTRUMENTS}
    named = set(re.findall(r"\b(?:dewy|longshore)_\w+", alert.expr))
    assert {name.removesuffix("_bucket") for name in named} <= known
    assert "`" in alert.runbook


def test_grafana_gets_every_alert_and_asks_the_data_source_that_is_provisioned() -> None:
    rules = msgspec.yaml.decode(grafana())["groups"][0]["rules"]
    source = msgspec.yaml.decode((FOLDER / "grafana/provisioning/datasources/metrics.yaml").read_text())
    assert [rule["title"] for rule in rules] == [alert.name for alert in ALERTS]
    assert {rule["data"][0]["datasourceUid"] for rule in rules} <= {one["uid"] for one in source["datasources"]}
    assert len({rule["uid"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["condition"] in {query["refId"] for query in rule["data"]}
        assert len(rule["uid"]) <= 40


@pytest.mark.timeout(300)
def test_prometheus_evaluates_every_rule_on_a_live_pipeline(pipeline: Pipeline) -> None:
    def evaluated() -> set[str]:
        groups = pipeline.prometheus.rules()
        return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}

    wait_for("Prometheus has evaluated every rule", lambda: evaluated() == {alert.name for alert in ALERTS})
    for alert in ALERTS:
        for metric in set(re.findall(r"\b(?:dewy|longshore)_\w+", alert.expr)):
            assert pipeline.prometheus.query(f"count({metric})"), metric
        pipeline.victoria_metrics.query(alert.expr)
