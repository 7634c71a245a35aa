"""Import of a log file into the stream, each message once, however often it is tried."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import msgspec
import nats.errors
from nats.js.api import PubAck

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.errors import BusError, LogFileError
from services.common.jetstream.log_reader import BEGAN
from services.common.tasks import unless_cancelled
from services.replay.log.dedup import SeenBatches
from services.replay.log.logfile import Reader, Record
from services.replay.log.source import from_stream

STORED = "Longshore-Stored"
"""Header of an imported message: when its own log stored it (unix seconds)."""

WINDOW = 256
"""Messages that wait for their acknowledgements together: one round trip for many, and little to repeat."""
ACK_TIMEOUT = 10.0

_SUBJECT = re.compile(rf"{re.escape(subjects.EVENTS)}(\.[A-Za-z0-9_-]+){{2,3}}")


class Imported(msgspec.Struct):
    """The number of added messages, and of those that were skipped because the log has them."""

    added: int = 0
    known: int = 0


async def import_log(file: Reader, bus: Bus, on_progress: Callable[[Imported], None]) -> Imported:
    """Append the messages of a file to the stream, in their order, except those that it has.

    Raises BusError, and LogFileError where the file is damaged, after everything before that is in the stream.
    """
    seen, done = SeenBatches(), Imported()
    began: float | None = None
    async for records in from_stream(bus):
        for record in records:
            seen.add(record.payload)
    for records in file:
        if began is None and records:
            began = records[0].time if records[0].sequence > 1 else 0.0
        new = [
            (identity, _marked(record, began or 0.0)) for record in records if (identity := seen.add(record.payload))
        ]
        done.known += len(records) - len(new)
        for start in range(0, len(new), WINDOW):
            done.added += await _publish(bus, new[start : start + WINDOW], file.name)
            on_progress(done)
    return done


async def _publish(bus: Bus, window: list[tuple[str, Record]], name: str) -> int:
    """Send messages and wait until all are stored. Return how many they were."""
    for _, record in window:
        if not _SUBJECT.fullmatch(record.subject):
            raise LogFileError(
                f"{name}: record {record.sequence} has the subject {record.subject!r}, which is not one of events"
            )
    try:
        async with asyncio.timeout(ACK_TIMEOUT):
            waiting = [await _send(bus, identity, record) for identity, record in window]
            await asyncio.gather(*waiting)
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(
            f"the bus does not store the message of sequence {window[0][1].sequence} of {name} or one soon after it "
            f"({error or 'no answer'}): run `longshore import` again, it repeats nothing"
        ) from error
    return len(window)


def _marked(record: Record, began: float) -> Record:
    """Return the record with the beginning of its log, if that had lost earlier messages; 0 if it had not."""
    return msgspec.structs.replace(record, began=max(record.began, began))


async def _send(bus: Bus, identity: str, record: Record) -> asyncio.Future[PubAck]:
    headers = {"Nats-Msg-Id": identity, STORED: f"{record.time:.6f}"}
    if record.began > 0:
        headers[BEGAN] = f"{record.began:.6f}"
    acknowledged: asyncio.Future[PubAck] = await unless_cancelled(
        bus.jetstream.publish_async(record.subject, record.payload, stream=subjects.STREAM, headers=headers)
    )
    return acknowledged
