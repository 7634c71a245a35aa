"""`longshore deployer`."""

from __future__ import annotations

from typing import Any

import typer

from services.cli.commands import SERVICES
from services.cli.options import build, command
from services.deployer.settings import DeployerSettings

app = typer.Typer()


@command(app, "deployer", DeployerSettings, rich_help_panel=SERVICES)
def deployer(values: dict[str, Any]) -> None:
    """Start the deployer of one application."""
    from services.deployer.service import run

    run(build(DeployerSettings, values))
