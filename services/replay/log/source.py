"""The sources of a log: the stream of a bus, or a file. Both give records in order, many at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import msgspec

from schemas import codec, subjects
from services.client.client import LoggedEvent
from services.common.bus.connection import Bus
from services.common.errors import BusError, LogFileError
from services.common.jetstream import log_reader
from services.replay.log import logfile
from services.replay.log.dedup import SeenBatches
from services.replay.log.log_range import LogPosition
from services.replay.log.logfile import Record

Log: TypeAlias = AsyncIterable[list[Record]]


async def from_file(path: str) -> AsyncIterator[list[Record]]:
    """Yield the records of a log file. Raises LogFileError where it is damaged, after everything before."""
    with logfile.reading(path) as file:
        for records in file:
            yield records


async def from_stream(
    bus: Bus, start: int = 1, subject: str = subjects.ALL_EVENTS, last: int | None = None, created: str = ""
) -> AsyncGenerator[list[Record], None]:
    """Yield the messages of the stream from sequence `start` to `last`, by default the newest one now.

    Raises BusError if there is no stream, if it is not the one that was `created` then, and if it is deleted, or loses
    its end, during the reading.
    """
    stream = await log_reader.describe(bus)
    if created and stream.created != created:
        raise _replaced()
    end = stream.last if last is None else last
    if start > end:
        return
    try:
        async with aclosing(log_reader.read(bus, start, subject, wait=False, created=stream.created)) as reading:
            async for messages in reading:
                yield [_record(one) for one in messages if one.sequence <= end]
                if messages[-1].sequence >= end:
                    break
        if (await log_reader.describe(bus)).created != stream.created:
            raise _replaced()
    except log_reader.StreamReplacedError:
        raise _replaced() from None


def _replaced() -> BusError:
    return BusError(
        f"the stream {subjects.STREAM} was replaced, or lost its end, while it was read: run the command again"
    )


class Readable:
    """A log up to a position, as far as it can be read; `damage` is the error that ended it before that.

    `is_cut`: the log continues after the position. `behind`: messages after the position that were stored before its
    time, because the bus set its clock back. `end` and `time`: the highest sequence and the latest time that were read.
    Raises LogFileError if nothing can be read.
    """

    def __init__(self, log: Log, last: LogPosition | None = None) -> None:
        self.damage: LogFileError | None = None
        self.is_cut = False
        self.behind = 0
        self.end = 0
        self.time = 0.0
        self._log = log
        self._last = last

    async def __aiter__(self) -> AsyncIterator[list[Record]]:
        is_begun = False
        try:
            async for records in self._log:
                is_begun = True
                self.end = max(self.end, *(one.sequence for one in records), 0)
                self.time = max(self.time, *(one.time for one in records), 0.0)
                inside = records if self._last is None else self._before(self._last, records)
                if inside:
                    yield inside
                if self._last and self.is_cut and self._last.time is None:
                    return
        except LogFileError as error:
            if not is_begun:
                raise
            self.damage = None if self.is_cut else error

    def _before(self, last: LogPosition, records: list[Record]) -> list[Record]:
        """Return those of the next records that come before any record after the position."""
        inside: list[Record] = []
        for record in records:
            if last.is_passed(record.sequence, record.time):
                self.is_cut = True
            elif self.is_cut:
                self.behind += last.time is not None
            else:
                inside.append(record)
        return inside


async def events(log: Log, app: str = "", host: str = "") -> AsyncIterator[LoggedEvent]:
    """Yield the events of a log, each once; of one app (and of whole services) and of one host, if named."""
    known = SeenBatches()
    async for records in log:
        for record in records:
            for event in recorded(record) if known.add(record.payload) else []:
                if (not app or event.app in (app, subjects.NO_APP)) and host in ("", event.host):
                    yield event


def _record(message: log_reader.LogMessage) -> Record:
    return Record(message.sequence, message.time, message.subject, message.payload, message.began)


def recorded(record: Record) -> list[LoggedEvent]:
    """Return the events of a message, each with its envelope; none if it is not a batch."""
    try:
        batch = codec.decode(record.payload, record.subject).batch
    except msgspec.MsgspecError:
        return []
    return [LoggedEvent(record.sequence, batch.service, batch.host, batch.app, event) for event in batch.events]
