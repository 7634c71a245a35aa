"""`longshore history` and `longshore diff`: past deployments, and how releases performed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import compress
from typing import Annotated, Any

import msgspec
import typer

from schemas import subjects
from services.cli import output
from services.cli.log_start import warn_if_truncated
from services.cli.text.columns import note, table
from services.cli.verbs import Json, registered, verb
from services.client.client import LoggedEvent, Target, connect
from services.common.text import last_line
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.views.times import iso
from services.replay.comparison import Comparison, Side
from services.replay.deployments import Deployment, deployments
from services.replay.log.source import Readable, events, from_file, from_stream

File = Annotated[str, typer.Option("--file", help="Log file to read instead of the running log.")]
Name = Annotated[str, typer.Argument(help="Release, or the first characters of a deployment's id.", show_default=False)]

Wide = Annotated[bool, typer.Option("--wide", help="Print one line a deployment, as wide as it needs.")]

YEAR = len("2026-")
"""A narrow time begins with the month: the log is seldom as long as a year."""

DIGEST = 19
"""Characters shown of a digest: its algorithm and twelve digits."""


@verb
async def history(
    target: Target, context: typer.Context, file: File = "", wide: Wide = False, as_json: Json = False
) -> None:
    """List the deployments in the log: release, who asked for it, duration of each phase, outcome.

    It lists those of all hosts unless --host names one. On a terminal each takes two or three short lines; with --wide,
    and where the output is not a terminal, one long line.
    """
    async with _events(target, context, file, "deployer") as found:
        known = await deployments(found)
        if as_json:
            output.print_json(map(as_object, known))
        elif not wide and (width := output.width()):
            typer.echo("\n".join(narrow(known, width)))
        else:
            output.print_table(
                ["STARTED", "HOST", "APP", "RELEASE", "FROM", "BY", "OUTCOME", "SECONDS", "PHASES", "DIGEST", "REASON"],
                [_row(one) for one in known],
                wide=True,
            )


@verb
async def diff(
    target: Target, context: typer.Context, a: Name, b: Name, file: File = "", as_json: Json = False
) -> None:
    """Compare two releases side by side: what they are, and how they performed while they served."""
    comparison = Comparison()
    async with _events(target, context, file, "*") as found:
        async for recorded in found:
            comparison.add(recorded)
        sides = [comparison.side(name) for name in (a, b)]
        if as_json:
            output.print_json(sides)
        else:
            _print(sides)


def _print(sides: list[Side]) -> None:
    titles = [side.release if side.release == side.name else f"{side.release} ({side.name})" for side in sides]
    left, right = map(_facts, sides)
    output.print_table(["", *titles], [(name, left[name], right[name]) for name in left])


@asynccontextmanager
async def _events(
    target: Target, context: typer.Context, file: str, service: str
) -> AsyncIterator[AsyncIterator[LoggedEvent]]:
    """Open the wanted events. Raises LogFileError for a damaged log, after all events before the damage were read."""
    source = context.get_parameter_source("host")
    host = (
        "" if source is None or source.name == "DEFAULT" else target.host
    )  # the default is this machine's name, which is no filter
    if file:
        log = Readable(from_file(file))
        yield events(log, target.app, host)
    else:
        async with connect(target) as client:
            await warn_if_truncated(client.bus)
            log = Readable(from_stream(client.bus, subject=subjects.events(service, target.app or "*")))
            yield events(log, target.app, host)
    if log.damage:
        raise log.damage


def as_object(one: Deployment) -> dict[str, Any]:
    """Return a deployment as JSON has it, with the names and times of the admin API beside the older ones."""
    same = {"id": one.deployment, "result": one.outcome, "started_at": iso(one.started), "ended_at": iso(one.ended)}
    return {**msgspec.to_builtins(one), **same}


def narrow(known: list[Deployment], width: int) -> list[str]:
    """Return the deployments for a terminal: a row for each, then its digest, phases and changes, and why it failed.

    The application and the host have a column where there are several.
    """
    several = [len({getattr(one, name) for one in known}) > 1 for name in ("host", "app")]
    columns = ["STARTED", "HOST", "APP", "RELEASE", "FROM", "BY", "OUTCOME", "SECONDS"]
    shown = [True, *several, True, True, True, True, True]
    rows = [list(compress([output.clock(one.started)[YEAR:], *_row(one)[1:8]], shown)) for one in known]
    head, *lines = table(list(compress(columns, shown)), rows, width, ("STARTED", "OUTCOME", "SECONDS"))
    return [head, *(text for line, one in zip(lines, known, strict=True) for text in (line, *_details(one, width)))]


def _details(one: Deployment, width: int) -> list[str]:
    found = note("digest", one.digest[:DIGEST], width) if one.digest else []
    if one.phases:
        found += note("phases", _phases(one), width)
    if one.changed:
        found += note("changes", ", ".join(one.changed), width)
    return found + (note("reason" if one.outcome == "waiting" else "failed", _reason(one), width) if one.reason else [])


def _phases(one: Deployment) -> str:
    return " ".join(f"{phase} {seconds:.1f}" for phase, seconds in one.phases.items())


def _row(one: Deployment) -> list[str]:
    return [
        output.clock(one.started),
        one.host,
        one.app,
        one.release if one.kind == "release" else f"{one.release} ({one.kind})",
        one.previous or "-",
        one.by,
        one.outcome,
        f"{one.duration:.1f}" if one.duration else "-",
        _phases(one) or "-",
        one.digest[:DIGEST] or "-",
        "; ".join(_notes(one)),
    ]


def _reason(one: Deployment) -> str:
    last = f" (last line of output: {last_line(one.output)})" if one.output else ""
    return ": ".join(filter(None, (one.phase, one.reason))) + last


def _notes(one: Deployment) -> list[str]:
    changed = [f"changes {', '.join(one.changed)}"] if one.changed else []
    return changed + ([_reason(one)] if one.reason else [])


def _facts(side: Side) -> dict[str, str]:
    served, newest = side.served, side.deployments[-1] if side.deployments else None
    first = [f"by {one.by}: {one.outcome}, {output.clock(one.started)}" for one in side.deployments]
    return {
        "application": f"{side.app} on {side.host}",
        "digest": side.digest or "-",
        "deployed": "; ".join(first) or "-",
        "from": newest.previous or "-" if newest else "-",
        "seconds": f"{newest.duration:.1f}" if newest and newest.duration else "-",
        "phases": " ".join(f"{phase} {took:.1f}" for phase, took in newest.phases.items()) if newest else "-",
        "reason": _reason(newest) if newest and newest.reason else "-",
        "replicas": str(served.replicas),
        "served from": output.clock(served.first) if served.first else "-",
        "served to": output.clock(served.last) if served.last else "now" if served.first else "-",
        "connections": str(served.connections),
        "bytes": str(served.bytes),
        "failed dials": str(served.dial_failures),
        "broken connections": str(served.broken),
        "crashes": str(served.crashes),
        "failed health checks": str(served.health_failures),
        "connect latency": _spread(served.latency),
        "connection duration": _spread(served.duration),
    }


def _spread(histogram: Histogram) -> str:
    """Return the mean, and the bound below which 95 of 100 values lie."""
    if not histogram.count:
        return "-"
    return f"mean {_seconds(histogram.sum / histogram.count)}, p95 {_quantile(histogram, 0.95)}"


def _quantile(histogram: Histogram, share: float) -> str:
    below = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        below += count
        if below >= share * histogram.count:
            return f"≤ {_seconds(bound)}"
    return f"> {_seconds(histogram.bounds[-1])}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


app = registered(__name__)
