"""Where a log comes from: the stream of a bus, or a file. Both give records in order, many at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import msgspec

from schemas import codec, subjects
from services.common import logfile, reader
from services.common.bus import Bus
from services.common.logfile import Record
from services.common.remote import Recorded
from services.replay.presence import Presence

Log: TypeAlias = AsyncIterator[list[Record]]


async def from_file(path: str) -> Log:
    """The records of a log file. Raises LogFileError where it is damaged, after all that comes before."""
    with logfile.reading(path) as file:
        for records in file:
            yield records


async def from_stream(
    bus: Bus, start: int = 1, subject: str = subjects.ALL_EVENTS, last: int | None = None
) -> AsyncGenerator[list[Record], None]:
    """The messages of the stream from sequence `start` to `last`, which is the newest one now if it is not named.

    Raises BusError when there is no stream.
    """
    end = (await reader.describe(bus)).last if last is None else last
    if start > end:
        return
    async with aclosing(reader.read(bus, start, subject, wait=False)) as reading:
        async for entries in reading:
            yield [Record(one.sequence, one.time, one.subject, one.payload) for one in entries if one.sequence <= end]
            if entries[-1].sequence >= end:
                return


async def events(log: Log, app: str = "") -> AsyncIterator[Recorded]:
    """The events of a log, each once; those of one app and of services as a whole, if it is named."""
    known = Presence()
    async for records in log:
        for record in records:
            for event in recorded(record) if known.add(record.payload) else []:
                if not app or event.app in (app, subjects.NO_APP):
                    yield event


def recorded(record: Record) -> list[Recorded]:
    """The events of a message, each with its envelope; none if it is no batch."""
    try:
        batch = codec.decode(record.payload, record.subject).batch
    except msgspec.MsgspecError:
        return []
    return [Recorded(record.sequence, batch.service, batch.host, batch.app, event) for event in batch.events]
