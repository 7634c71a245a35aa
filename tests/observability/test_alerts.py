"""The alert rules, by promtool, by vmalert, and as Grafana gets them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dashboards.__main__ import FOLDER
from dashboards.alerts import ALERTS, grafana
from services.metrics_gateway.instruments import INSTRUMENTS
from tests.observability.pipeline import Pipeline

RULES = FOLDER / "alerts.yml"
CASES = Path(__file__).with_name("alerts.test.yml")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_must_and_only_then(tmp_path: Path) -> None:
    """The cases name an alert's runbook instead of repeating it."""
    text = CASES.read_text().replace("../../compose/observability/alerts.yml", str(RULES))
    for alert in ALERTS:
        text = text.replace(f"RUNBOOK {alert.name}", msgspec.json.encode(alert.runbook).decode())
    cases = tmp_path / "alerts.test.yml"
    cases.write_text(text)
    run("promtool", "test", "rules", str(cases))


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    checks = [check for test in msgspec.yaml.decode(CASES.read_text())["tests"] for check in test["alert_rule_test"]]
    assert {one["alertname"] for one in checks if one.get("exp_alerts")} == {alert.name for alert in ALERTS}
    assert {one["alertname"] for one in checks if not one.get("exp_alerts")} == {alert.name for alert in ALERTS}


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


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_prometheus_evaluates_every_rule_on_a_live_pipeline(pipeline: Pipeline) -> None:
    for alert in ALERTS:
        pipeline.prometheus.query(alert.expr)
        pipeline.victoria_metrics.query(alert.expr)
