"""`longshore verify`: is the log whole?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from services.cli import output
from services.cli.beginning import tell_beginning
from services.cli.verbs import Json, verb
from services.common import logfile
from services.common.errors import LogFileError, LongshoreError, SettingsError
from services.common.remote import Target, connect
from services.replay.audit import Audit, Instance
from services.replay.source import Log, from_stream


@verb
async def verify(
    target: Target,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]", help="A log file, - for standard input; without it, the running log.", show_default=False
        ),
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Read the running log, as without FILE.")] = False,
    as_json: Json = False,
) -> None:
    """Prove that the log has no gap and no repeat, and that nobody altered it.

    Prints every process that wrote to it with the digest of its newest batch; exits with 1 when something is wrong.
    """
    if file and stream:
        raise SettingsError(f"--stream and {file}: say one of them")
    audit = Audit()
    async with _log(target, file) as log:
        async for records in log:
            for record in records:
                audit.add(record.sequence, record.payload)
    findings = audit.findings()
    if as_json:
        output.print_json([_as_object(one) for one in audit.instances.values()])
    else:
        _print(audit)
    for finding in findings:
        output.progress(f"{finding.kind}: {finding.text}")
    if findings:
        counts = ", ".join(f"{kind}: {count}" for kind, count in audit.counts.items() if count)
        raise LongshoreError(f"the log is not whole ({counts}): see above, and docs/log.md for what it can mean")
    output.progress(
        f"{audit.messages} messages, {audit.first} to {audit.last}, of {len(audit.instances)} processes: "
        "no gap, no repeat, nothing altered"
    )


@asynccontextmanager
async def _log(target: Target, file: str) -> AsyncIterator[Log]:
    if file:
        with logfile.reading(file) as opened:
            if opened.header.app:
                raise LogFileError(f"{file}: holds one application only; verify an export of the whole log")
            yield _records(opened)
            return
    async with connect(target) as remote:
        await tell_beginning(remote.bus)
        yield from_stream(remote.bus)


async def _records(opened: logfile.Reader) -> Log:
    for records in opened:
        yield records


def _print(audit: Audit) -> None:
    output.print_table(
        ["SERVICE", "HOST", "PROCESS", "BATCHES", "FROM", "TO", "MISSING", "REPEATED", "ALTERED", "HEAD"],
        [_row(one) for one in audit.instances.values()],
    )


def _row(one: Instance) -> tuple[str, ...]:
    numbers = (one.batches, one.first, one.last, _missing(one), one.repeated, one.altered)
    return (one.service, one.host, one.id, *map(str, numbers), one.head or "not chained")


def _as_object(one: Instance) -> dict[str, object]:
    return {
        **{name: getattr(one, name) for name in ("service", "host", "id", "batches", "first", "last")},
        **{name: getattr(one, name) for name in ("missing", "repeated", "altered", "dropped", "head")},
    }


def _missing(one: Instance) -> int:
    return sum(end - start + 1 for start, end in one.missing)
