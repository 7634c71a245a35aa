"""`longshore status`: what runs, and whether it is as it should be."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import msgspec
import typer

from services.cli import output
from services.cli.overview import overview
from services.cli.queries import screen
from services.cli.queries.leaders import without_leader
from services.cli.queries.report import Report, report
from services.cli.verbs import Json, registered, verb
from services.client.client import Client
from services.common.errors import SettingsError
from services.replay.base_state import present_state

FINDING = 3
"""The exit code of `--check` with a finding; 1 and 2 mean that the check itself failed."""

REFRESH = 2.0
"""Seconds between two screens of `--watch`."""

CLEAR = "\x1b[H\x1b[2J"


@verb
async def status(
    client: Client,
    all_hosts: Annotated[bool, typer.Option("--all-hosts", help="Show the applications of every host.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 when something is wrong.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the status again every 2 seconds.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Cut no value to the width of the terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Show the applications of a host: release, replicas, deployment, and what is wrong.

    With --check, it exits with 3 when fewer replicas serve than are wanted, a replica is unhealthy, a release or a
    change of options is quarantined, the registry fails, or no deployer runs; a pause, a pin, a stop and a running
    deployment are no problems.
    """
    if watch and (check or as_json):
        raise SettingsError("--watch: excludes --check and --json; omit it")
    if client.target.app and not all_hosts:
        await client.app()  # that does not exist is an error, and not a host without applications
    width = None if wide else output.width()
    while True:
        reports = await _reports(client, all_hosts)
        if watch:
            typer.echo(CLEAR, nl=False)
        _print(client, reports, width, as_json)
        if not watch:
            break
        await asyncio.sleep(REFRESH)
    problems = [f"{one.view.app} on {one.host}: {text}" for one in reports for text in one.problems]
    if check and (problems or not reports):
        for text in problems:
            output.progress(text)
        raise typer.Exit(FINDING)


def _print(client: Client, reports: list[Report], width: int | None, as_json: bool) -> None:
    if as_json:
        output.print_json(one.as_object() for one in reports)
        return
    if not reports:
        output.progress(f"no application runs on {client.target.host}")
    for one in reports:
        typer.echo("\n".join(screen.lines(one, time.time(), width)))


async def _reports(client: Client, all_hosts: bool) -> list[Report]:
    state, found = await present_state(client.bus), []
    for host in sorted({host for host, _ in state.apps} | {client.target.host}) if all_hosts else [client.target.host]:
        on_host = Client(client.bus, msgspec.structs.replace(client.target, host=host))
        views = await overview(on_host)
        free = await without_leader(client.bus, [(host, view.app) for view in views])
        found += [report(host, one, state.apps.get((host, one.app)), (host, one.app) not in free) for one in views]
    return found


app = registered(__name__)
