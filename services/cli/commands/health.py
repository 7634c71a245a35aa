"""`longshore health`."""

from __future__ import annotations

from typing import Any

import typer

from services.cli.commands import SERVICES
from services.cli.options import build, command
from services.health.settings import HealthSettings

app = typer.Typer()


@command(app, "health", HealthSettings, rich_help_panel=SERVICES)
def health(values: dict[str, Any]) -> None:
    """Start the health checks of this host's replicas."""
    from services.health.service import run

    run(build(HealthSettings, values))
