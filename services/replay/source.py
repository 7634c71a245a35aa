"""Where a log comes from: the stream of a bus, or a file. Both give records in order, many at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import msgspec

from schemas import codec, subjects
from services.common import logfile, reader
from services.common.bus import Bus
from services.common.errors import BusError, LogFileError
from services.common.logfile import Record
from services.common.remote import Recorded
from services.replay.presence import Presence

Log: TypeAlias = AsyncIterable[list[Record]]


async def from_file(path: str) -> AsyncIterator[list[Record]]:
    """The records of a log file. Raises LogFileError where it is damaged, after all that comes before."""
    with logfile.reading(path) as file:
        for records in file:
            yield records


async def from_stream(
    bus: Bus, start: int = 1, subject: str = subjects.ALL_EVENTS, last: int | None = None
) -> AsyncGenerator[list[Record], None]:
    """The messages of the stream from sequence `start` to `last`, which is the newest one now if it is not named.

    Raises BusError when there is no stream, or when it is deleted, or loses its end, while it is read.
    """
    stream = await reader.describe(bus)
    end = stream.last if last is None else last
    if start > end:
        return
    try:
        async with aclosing(reader.read(bus, start, subject, wait=False, created=stream.created)) as reading:
            async for entries in reading:
                yield [_record(one) for one in entries if one.sequence <= end]
                if entries[-1].sequence >= end:
                    break
        if (await reader.describe(bus)).created != stream.created:
            raise reader.StreamReplacedError(stream)
    except reader.StreamReplacedError:
        raise BusError(f"the stream {subjects.STREAM} was made anew while it was read: say it again") from None


class Readable:
    """A log as far as it can be read: what damaged it ends it, and is in `damage` then.

    A log of which nothing can be read is a LogFileError.
    """

    def __init__(self, log: Log) -> None:
        self.damage: LogFileError | None = None
        self._log = log

    async def __aiter__(self) -> AsyncIterator[list[Record]]:
        is_begun = False
        try:
            async for records in self._log:
                is_begun = True
                yield records
        except LogFileError as error:
            if not is_begun:
                raise
            self.damage = error


async def events(log: Log, app: str = "", host: str = "") -> AsyncIterator[Recorded]:
    """The events of a log, each once; those of one app and of services as a whole, and of one host, if it is named."""
    known = Presence()
    async for records in log:
        for record in records:
            for event in recorded(record) if known.add(record.payload) else []:
                if (not app or event.app in (app, subjects.NO_APP)) and host in ("", event.host):
                    yield event


def _record(entry: reader.Entry) -> Record:
    return Record(entry.sequence, entry.time, entry.subject, entry.payload, entry.began)


def recorded(record: Record) -> list[Recorded]:
    """The events of a message, each with its envelope; none if it is no batch."""
    try:
        batch = codec.decode(record.payload).batch
    except msgspec.MsgspecError:
        return []
    return [Recorded(record.sequence, batch.service, batch.host, batch.app, event) for event in batch.events]
