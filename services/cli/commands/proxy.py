"""`longshore proxy`."""

from __future__ import annotations

from typing import Any

import typer

from services.cli.commands import SERVICES
from services.cli.options import build, command
from services.proxy.settings import ProxySettings

app = typer.Typer()


@command(app, "proxy", ProxySettings, rich_help_panel=SERVICES)
def proxy(values: dict[str, Any]) -> None:
    """Start the TCP proxy."""
    from services.proxy.service import run

    run(build(ProxySettings, values))
