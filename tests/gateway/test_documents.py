"""What docs/telemetry.md says is true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from services.common.settings import Settings
from services.metrics_gateway.instruments import INSTRUMENTS
from services.metrics_gateway.settings import GatewaySettings
from tests.contract.contract import queries

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "telemetry.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced samples of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def expressions() -> list[str]:
    (block,) = blocks("promql")
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_every_metric_that_the_page_names_exists() -> None:
    known = {name for one in INSTRUMENTS for name in (one.name, one.prometheus, *one.aliases)}
    known |= {f"{name}_bucket" for name in known}
    named = set(re.findall(r"\b(?:dewy|longshore)[._][a-z_.]*[a-z]", PAGE)) - {"longshore.service", "longshore_gateway"}
    assert named - known == {"dewy_deployment", "dewy_proxy"}  # written with a star behind
    assert {one.name for one in INSTRUMENTS if one.name.startswith("dewy")} <= named


def test_every_query_of_the_reference_documents_is_on_the_page() -> None:
    assert {query.expr for query in queries()} <= set(expressions())


@pytest.mark.parametrize("expression", expressions())
def test_every_query_of_the_page_parses(expression: str) -> None:
    rule = f"groups: [{{name: page, rules: [{{record: 'a:b', expr: '{expression}'}}]}}]"
    checked = subprocess.run(["promtool", "check", "rules", "/dev/stdin"], input=rule, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_prometheus_configuration_is_valid(tmp_path: Path) -> None:
    (sample,) = [block for block in blocks("yaml") if "scrape_configs" in block]
    config = tmp_path / "prometheus.yml"
    config.write_text(sample)
    checked = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_options_and_their_defaults_are_those_of_the_gateway() -> None:
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", PAGE, re.MULTILINE))
    own = set(GatewaySettings.__struct_fields__) - set(Settings.__struct_fields__)
    assert {name.replace("-", "_") for name in rows} == own
    defaults = GatewaySettings()
    for name, default in rows.items():
        value = getattr(defaults, name.replace("-", "_"))
        assert default == {False: "off", "": "none"}.get(value, str(value))


def test_links_inside_the_documents_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE):
        if target.startswith("#"):
            assert target.removeprefix("#") in headings
        else:
            assert (ROOT / "docs" / target).exists()
