"""`longshore demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.commands import START

app = typer.Typer()


@app.command("demo", rich_help_panel=START)
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the scenario.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run a demo: a release rolls out under traffic, and a broken one rolls back."""
    from services.demo.main import run

    raise typer.Exit(run(once=once, as_json=as_json))
