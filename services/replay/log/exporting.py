"""Export of the stream into a file, at once or in several steps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.errors import LogFileError
from services.common.jetstream.log_reader import Stream
from services.replay.log.log_range import LogPosition
from services.replay.log.logfile import Header, Reader, Record, Writer, beginning
from services.replay.log.source import Readable, from_stream

STDOUT = "-"


class _Envelope(msgspec.Struct, array_like=True):
    """A batch without its link of the chain, its events not decoded."""

    service: str
    host: str
    app: str
    instance: str
    sequence: int
    events: msgspec.Raw


_envelope = msgspec.msgpack.Decoder(_Envelope)
_NO_EVENTS = msgspec.Raw(msgspec.msgpack.encode([]))


@contextmanager
def writing(path: str, header: Header, resume: bool) -> Iterator[Writer]:
    """Open a new file, or an existing one to resume, for writing; "-" is standard output.

    The file gets its last frame when the block ends well, and can be resumed whenever it ends. Raises LogFileError for
    a file that cannot be written, exists already, or holds another log.
    """
    try:
        with _writing(path, header, resume and path != STDOUT and Path(path).exists()) as writer:
            yield writer
    except FileExistsError:
        raise LogFileError(f"{path} exists already: continue it with --resume, or name another file") from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LogFileError(f"{path}: {error.strerror}; fix that and continue with --resume") from None


async def export(
    log: Readable, writer: Writer, first: LogPosition | None, app: str, on_progress: Callable[[Writer], None]
) -> int:
    """Write the log, from a position on; of one app, if it is named. Append to a file that has records.

    Return how many of the requested messages the log no longer has.
    """
    is_begun = first is None or writer.last is not None
    lost: int | None = None
    async for records in log:
        for record in records:
            if lost is None:
                lost = _lost(writer, record, None if is_begun else first)
            is_begun = is_begun or first is None or first.is_reached(record.sequence, record.time)
            if is_begun:
                _add(writer, record, app)
        on_progress(writer)
    return lost or 0


def check_range(path: str, writer: Writer, first: LogPosition | None) -> None:
    """Raise LogFileError if resuming a file would leave a gap before the first requested position."""
    last = writer.last
    if last and first and not first.is_reached(last.sequence + 1, last.time):
        raise LogFileError(
            f"{path} ends with sequence {last.sequence}, before --from: omit --from to continue it, "
            "or name another file"
        )


async def check_stream(path: str, writer: Writer, bus: Bus, stream: Stream, app: str) -> None:
    """Raise LogFileError if the stream does not continue the file, because it has lost its end since."""
    last = writer.last
    if last is None or last.sequence < stream.first:
        return
    if last.sequence > stream.last:
        raise LogFileError(
            f"{path} reaches to sequence {last.sequence}, and the log ends with {stream.last}: it has lost its end: "
            "name another file"
        )
    async for records in from_stream(bus, last.sequence, last=last.sequence, created=stream.created):
        if any((filtered(record, app) if app else record) != last for record in records):
            raise LogFileError(
                f"{path} ends with a message of sequence {last.sequence} that differs from the log's: the log had lost "
                "its end; name another file"
            )


def _lost(writer: Writer, record: Record, first: LogPosition | None) -> int:
    """Return how many messages are missing before the first one that is read."""
    if first and not first.is_reached(record.sequence, record.time):
        return 0
    asked = first.sequence if first and first.sequence is not None else 1
    return max(0, record.sequence - max(writer.sequence + 1, asked))


def filtered(record: Record, app: str) -> Record | None:
    """Return a message as in the log of one app; None for one that is not a batch.

    Batches of other apps stay, without events, so that no sequence number of an instance is missing. The chain of
    digests would no longer hold, so it is left out.
    """
    try:
        envelope = _envelope.decode(record.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if envelope.app not in (app, subjects.NO_APP):
        envelope.events = _NO_EVENTS
    return msgspec.structs.replace(record, payload=msgspec.msgpack.encode(envelope))


def _add(writer: Writer, record: Record, app: str) -> None:
    kept = filtered(record, app) if app else record
    if kept:
        writer.add(kept)


@contextmanager
def _writing(path: str, header: Header, is_there: bool) -> Iterator[Writer]:
    with ExitStack() as stack:
        mode: Literal["r+b", "x+b"] = "r+b" if is_there else "x+b"
        file = sys.stdout.buffer if path == STDOUT else stack.enter_context(Path(path).open(mode))
        writer = _resumed(path, header, file) if is_there else Writer(file, header)
        try:
            yield writer
        except BaseException:
            writer.flush()
            raise
        writer.close()
        if path != STDOUT:
            os.fsync(file.fileno())


def _resumed(path: str, header: Header, file: BinaryIO) -> Writer:
    """Return a writer behind the last good record. The next frame replaces damage or the last frame after it."""
    if _is_not_begun(header, file):
        return Writer(file, header)
    reader = Reader(file, path)
    if reader.header != header:
        raise LogFileError(
            f"{path} holds another log ({_of(reader.header)}; asked for: {_of(header)}): name another file"
        )
    try:
        for _ in reader:
            pass
    except LogFileError:
        pass  # the writer replaces the damaged end
    return Writer.after(reader, file)


def _is_not_begun(header: Header, file: BinaryIO) -> bool:
    """Return whether an export ended before it had written its header. Empty the file in this case."""
    expected = beginning(header)
    found = file.read(len(expected))
    file.seek(0)
    if found == expected or not expected.startswith(found):
        return False
    file.truncate()
    return True


def _of(header: Header) -> str:
    return f"created {header.stream or 'unknown'}, {header.app or 'all apps'}"
