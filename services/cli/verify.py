"""`longshore verify`: proof that the log is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.log_start import warn_if_truncated
from services.cli.verbs import Json, registered, verb
from services.client.client import Target, connect
from services.common.errors import LogFileError, LongshoreError, SettingsError
from services.replay import heads
from services.replay.audit import Audit, Instance
from services.replay.log import logfile
from services.replay.log.logfile import Record
from services.replay.log.source import Readable, from_stream


@verb
async def verify(
    target: Target,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]", help="A log file, - for standard input; without it, the running log.", show_default=False
        ),
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Read the running log; the default without FILE.")] = False,
    kept: Annotated[
        str,
        typer.Option(
            "--heads",
            metavar="FILE",
            help="Earlier output of `longshore verify --json`: the log must still continue it.",
            show_default=False,
        ),
    ] = "",
    wide: Annotated[bool, typer.Option("--wide", help="Cut no value to the width of the terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Prove that the log has no gap and that no message in it was altered.

    It prints every process that wrote to the log, with the digest of its newest batch, and exits with 1 on a finding.
    """
    if file and stream:
        raise SettingsError(f"--stream and {file}: exclude each other; give one of them")
    audit = Audit(_heads(kept) if kept else None)
    async with _log(target, file) as (log, last):
        async for records in log:
            for record in records:
                audit.add(record)
        audit.end(last)
    findings = audit.findings()
    if as_json:
        output.print_json([_as_object(one) for one in audit.instances.values()])
    else:
        _print(audit, wide)
    for text in audit.repeats:
        output.progress(f"repeat: {text}")
    for finding in findings:
        output.progress(f"{finding.kind}: {finding.text}")
    _judge(audit, log.damage)


def _heads(path: str) -> list[heads.Head]:
    try:
        return heads.parse(Path(path).read_bytes().splitlines(), path)
    except OSError as error:
        raise LogFileError(f"{path}: {error.strerror}") from None


def _judge(audit: Audit, damage: LogFileError | None) -> None:
    """Report that the log is whole. Raises LongshoreError when it is not, or when it is empty."""
    if damage:
        raise damage
    if audit.counts:
        counts = ", ".join(f"{kind}: {count}" for kind, count in audit.counts.items())
        raise LongshoreError(
            f"the log is not whole ({counts}): see the findings above, and docs/log.md for their meaning"
        )
    if not audit.messages:
        raise LongshoreError("the log holds no message: nothing to verify")
    again = f"; {audit.repeated} batches are there twice, unchanged" if audit.repeated else ""
    output.progress(
        f"{audit.messages} messages, {audit.first} to {audit.last}, of {len(audit.instances)} processes: "
        f"no gap, nothing altered{again}"
    )


@asynccontextmanager
async def _log(target: Target, file: str) -> AsyncIterator[tuple[Readable, int]]:
    """Open the log; yield it and its last sequence, 0 for a file, which does not say it in advance."""
    if file:
        with logfile.reading(file) as opened:
            if opened.header.app:
                raise LogFileError(f"{file}: holds one application only; verify an export of the whole log")
            yield Readable(_records(opened)), 0
            return
    async with connect(target) as client:
        await warn_if_truncated(client.bus)
        last = await client.last_sequence()
        yield Readable(from_stream(client.bus, last=last)), last


async def _records(opened: logfile.Reader) -> AsyncIterator[list[Record]]:
    for records in opened:
        yield records


def _print(audit: Audit, wide: bool) -> None:
    output.print_table(
        ["SERVICE", "HOST", "PROCESS", "BATCHES", "FROM", "TO", "MISSING", "REPEATED", "ALTERED", "HEAD"],
        [_row(one) for one in audit.instances.values()],
        wide,
        kept=("BATCHES", "FROM", "TO", "MISSING", "REPEATED", "ALTERED"),
    )


def _row(one: Instance) -> tuple[str, ...]:
    numbers = (one.batches, one.first, one.last, _missing(one), one.repeated, one.altered)
    return (one.service, one.host, one.id, *map(str, numbers), one.head or "not chained")


def _as_object(one: Instance) -> dict[str, object]:
    return {
        **{name: getattr(one, name) for name in ("service", "host", "id", "batches", "first", "last")},
        **{name: getattr(one, name) for name in ("missing", "repeated", "altered", "dropped", "head")},
        **{name: getattr(one, name) for name in ("sequence", "time")},
    }


def _missing(one: Instance) -> int:
    return sum(end - start + 1 for start, end in one.missing)


app = registered(__name__)
