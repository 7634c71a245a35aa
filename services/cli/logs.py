"""`longshore replay`, `export` and `import`: metrics from the log, and log files."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.cli import output
from services.cli.verbs import Json, registered, verb
from services.client.client import Target, connect
from services.common.errors import SettingsError
from services.common.jetstream import log_reader
from services.metrics_gateway.views.times import iso
from services.replay.log import exporting, logfile
from services.replay.log.log_range import LogRange, parse_duration, parse_range
from services.replay.log.logfile import Header
from services.replay.log.source import Log, Readable, from_file, from_stream

if TYPE_CHECKING:
    from services.metrics_gateway.state.state import State
    from services.replay.replay import Replay, View

From = Annotated[str, typer.Option("--from", help="Sequence or time to begin with.", show_default="the log's start")]
Until = Annotated[str, typer.Option("--until", help="Sequence or time to end with.", show_default="the log's end")]
Format = Literal["text", "openmetrics", "json"]

PROGRESS_INTERVAL = 2.0
"""Seconds between two lines of progress."""


@verb
async def replay(
    target: Target,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]", help="A log file, - for standard input; without it, the running log.", show_default=False
        ),
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Read the running log; the default without FILE.")] = False,
    until: Until = "",
    since: From = "",
    output_format: Annotated[
        Format | None, typer.Option("--format", help="Output format.", show_default="text")
    ] = None,
    every: Annotated[
        str, typer.Option("--every", help="Print a time series in OpenMetrics, with a sample every 15s, 1m, …")
    ] = "",
    buckets: Annotated[
        list[str] | None,
        typer.Option("--buckets", help="METRIC=BOUND,BOUND,…: other buckets for a histogram, in seconds. Repeatable."),
    ] = None,
) -> None:
    """Print the metrics at any moment of the log, or as a time series.

    Example: longshore replay --until 2026-11-21T14:05:00Z --buckets dewy.proxy.connect.latency=0.0001,0.001
    """
    from services.replay import buckets as parsing
    from services.replay.replay import Replay, View

    if file and stream:
        raise SettingsError(f"--stream and {file}: exclude each other; give one of them")
    view = View(parse_range(since, until), target.app, parsing.parse(buckets or []))
    if every and output_format not in (None, "openmetrics"):
        raise SettingsError(f"--every writes OpenMetrics; omit --format {output_format}")
    seconds = parse_duration("--every", every) if every else None
    async with _log(target, file, None if every else view) as (log, known):
        replayed = Replay(view, _Progress().folded, known)
        if seconds is None:
            await _print_moment(replayed, log, output_format or "text")
        else:
            await _print_series(replayed, log, seconds)
    _warn_range_past_end(view.range, replayed.log, max(replayed.state.position, replayed.log.end))
    _report(replayed)


@verb
async def export(
    target: Target,
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write, - for standard output.")],
    until: Until = "",
    since: From = "",
    resume: Annotated[bool, typer.Option("--resume", help="Append to a file of an earlier export.")] = False,
) -> None:
    """Write the log to a file that `replay`, `import`, `history` and `diff` can read."""
    wanted, progress = parse_range(since, until), _Progress()
    async with connect(target) as client:
        stream = await log_reader.describe(client.bus)
        header = Header(logfile.VERSION, stream.created, target.app)
        with exporting.writing(file, header, resume) as writer:
            begun = writer.records
            exporting.check_range(file, writer, wanted.first)
            await exporting.check_stream(file, writer, client.bus, stream, target.app)
            async with aclosing(from_stream(client.bus, writer.sequence + 1, created=stream.created)) as log:
                readable = Readable(log, wanted.last)
                lost = await exporting.export(
                    readable, writer, wanted.first, target.app, lambda now: progress.wrote(now.records)
                )
    if lost:
        output.progress(f"{lost} messages left the log before they were exported")
    _warn_range_past_end(wanted, readable, stream.last)
    output.progress(
        f"exported {writer.records - begun} messages, {writer.records} in the file, to sequence {writer.sequence}"
    )


@verb
async def import_(
    target: Target,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A log file, - for standard input.")],
    as_json: Json = False,
) -> None:
    """Append the messages of a log file to the log, except those that it holds already."""
    from services.replay.log.importing import import_log

    progress = _Progress()
    with logfile.reading(file) as opened:
        async with connect(target, "admin") as client:
            done = await import_log(opened, client.bus, lambda now: progress.wrote(now.added))
    if as_json:
        output.print_json([done])
    else:
        typer.echo(f"imported {done.added} messages; {done.known} were there already")


@asynccontextmanager
async def _log(target: Target, file: str, moment: View | None) -> AsyncIterator[tuple[Log, State | None]]:
    """Open the log; for metrics of a log without its beginning, also the state from a snapshot."""
    from services.replay.base_state import newest_base_state

    if file:
        yield from_file(file), None
        return
    async with connect(target) as client:
        known = await newest_base_state(client.bus, moment) if moment else None
        position = known.position if known else 0
        if known:
            output.progress(
                f"these numbers include older messages: they start from the snapshot at sequence {position}"
            )
        async with aclosing(from_stream(client.bus, position + 1)) as log:
            yield log, known


async def _print_moment(replayed: Replay, log: Log, output_format: Format) -> None:
    from services.replay.exposition import Series, points, text

    moment, readings = await replayed.moment(log)
    if output_format == "json":
        output.print_json(points(readings, moment))
    elif output_format == "text":
        sys.stdout.write(text(readings))
    else:
        with Series() as series:
            series.add(readings, moment)
            series.write(sys.stdout.write)
    output.progress(f"as of {_iso(moment)}, sequence {replayed.state.position}: {replayed.state.events} events")


async def _print_series(replayed: Replay, log: Log, every: float) -> None:
    from services.replay.exposition import Series

    moments = 0
    with Series() as series:
        async for moment, readings in replayed.series(log, every):
            series.add(readings, moment)
            moments += 1
        series.write(sys.stdout.write)
    output.progress(f"{moments} moments, to sequence {replayed.state.position}: {replayed.state.events} events")


def _warn_range_past_end(wanted: LogRange, log: Readable, end: int) -> None:
    """Report which part of the wanted range a log that ends with sequence `end` does not have."""
    first, last = wanted.first, wanted.last
    if first and first.sequence and first.sequence > end:
        output.progress(f"the log ends with sequence {end}, before --from {first.sequence}")
    if first and first.time is not None and first.time > log.time:
        output.progress(f"the log ends at {_iso(log.time)}, before --from")
    if last and last.sequence and last.sequence > end:
        output.progress(f"the log ends with sequence {end}, before --until {last.sequence} (a date has dashes)")
    if log.behind:
        output.progress(
            f"{log.behind} messages that were stored before --until come later in the log: the clock of the bus was "
            "set back. To include them, give --until a sequence"
        )


def _report(replayed: Replay) -> None:
    """Report what the numbers do not show. Raises LogFileError for a damaged log: they end before the damage."""
    state = replayed.state
    for start, end in replayed.gaps:
        output.progress(f"nothing was stored from {_iso(start)} to {_iso(end)}: that gap has no samples but the first")
    if replayed.belated:
        output.progress(
            f"{replayed.belated} messages were stored before the time of a sample that was written: the clock of the "
            "bus was set back, and later samples have them"
        )
    if state.first > 1:
        output.progress(f"the log begins with sequence {state.first}: these numbers lack the older messages")
    if state.unknown:
        output.progress(f"skipped {state.unknown} events of kinds that this version does not know")
    if state.undecodable:
        output.progress(
            f"skipped {state.undecodable} messages that are not batches of events, or of an unknown version"
        )
    if replayed.damage:
        raise replayed.damage


class _Progress:
    """Lines of progress for commands that take long."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_INTERVAL

    def folded(self, state: State) -> None:
        self._print(f"sequence {state.position}, {state.events} events, {_iso(state.time)}")

    def wrote(self, messages: int) -> None:
        self._print(f"{messages} messages")

    def _print(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_INTERVAL
            output.progress(text)


def _iso(seconds: float) -> str:
    return iso(seconds) or f"@{seconds:g}"


app = registered(__name__)
