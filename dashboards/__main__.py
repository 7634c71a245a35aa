"""Write every generated file of compose/observability."""

from __future__ import annotations

from pathlib import Path

from dashboards import alerts
from dashboards.board import render
from dashboards.deployments import DEPLOYMENTS
from dashboards.gateway import GATEWAY
from dashboards.overview import OVERVIEW
from dashboards.proxy import PROXY

FOLDER = Path(__file__).parents[1] / "compose" / "observability"
BOARDS = (OVERVIEW, PROXY, DEPLOYMENTS, GATEWAY)


def files() -> dict[Path, str]:
    """Return the content of each file."""
    boards = {FOLDER / "grafana" / "dashboards" / f"{board.name}.json": render(board) for board in BOARDS}
    return boards | {
        FOLDER / "alerts.yml": alerts.prometheus(),
        FOLDER / "grafana" / "provisioning" / "alerting" / "longshore.yaml": alerts.grafana(),
    }


if __name__ == "__main__":
    for file, text in files().items():
        file.write_text(text)
