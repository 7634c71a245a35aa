"""`longshore gateway`."""

from __future__ import annotations

from typing import Any

import typer

from services.cli.commands import SERVICES
from services.cli.options import build, command
from services.metrics_gateway.settings import GatewaySettings

app = typer.Typer()


@command(app, "gateway", GatewaySettings, rich_help_panel=SERVICES)
def gateway(values: dict[str, Any]) -> None:
    """Start the metrics gateway: /metrics, OTLP and the admin API."""
    from services.metrics_gateway.service import run

    run(build(GatewaySettings, values))
