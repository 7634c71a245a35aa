"""A log in a file: the messages of the stream with their sequences and times, checked and compressed frame by frame.

A file is eight fixed bytes and then frames. A frame is its kind (one byte), the length of its body and a CRC-32 over
kind, length and body (four bytes each, big endian), and the body. The first frame is the header, the last one the
footer; those between them hold records, compressed with zlib. All values are MessagePack. docs/replay.md has the
details.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from services.common.errors import LogFileError
from services.common.jetstream.record import Record as Record

MAGIC = b"\x89LSLOG\r\n"
"""These bytes break in a transfer as text, or in one that drops the eighth bit, so the reader notices."""

VERSION = 1
FRAME = 256 << 10
"""Bytes of messages after which a frame is closed."""

LARGEST = 64 << 20
"""Bytes that the body of a frame may have, compressed or not."""

LATEST = 253_402_300_800.0
"""The end of the year 9999, in unix seconds."""

HEADER, RECORDS, FOOTER = b"H", b"R", b"F"
_PREFIX = struct.Struct(">cII")

T = TypeVar("T")


class Versioned(msgspec.Struct, frozen=True, array_like=True):
    """The first field of a header of any version."""

    version: int


class Header(Versioned, frozen=True, array_like=True):
    """The log in the file: when its stream was created, and the one app that it is about, empty for all."""

    stream: str = ""
    app: str = ""


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """The number of records, and the SHA-256 of all bytes before this frame."""

    records: int
    digest: bytes


class Reader:
    """An iterator over the records of a file, a frame at a time.

    Raises LogFileError when the file is damaged or ends early, after everything before that. `offset` is the end of the
    good frames, `records` the number of records that were read, `last` the last of them. `footer` is set once the file
    was read to its end and is complete.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.offset = len(MAGIC)
        self.records = 0
        self.last: Record | None = None
        self.footer: Footer | None = None
        self.digest = sha256(MAGIC)
        self._file = file
        if file.read(len(MAGIC)) != MAGIC:
            raise LogFileError(f"{name}: not a log file: write one with `longshore export`")
        self.header = self._header()

    def __iter__(self) -> Iterator[list[Record]]:
        while not self.footer:
            kind, body = self._frame()
            if kind == RECORDS:
                records = self._decode(self._inflate(body), list[Record])
                if not all(map(_is_possible, records)):
                    raise self._damage("a record with an impossible sequence or time")
                self.records += len(records)
                self.last = records[-1] if records else self.last
                yield records
            elif kind == FOOTER:
                self.footer = self._whole(self._decode(body, Footer))
            else:
                raise self._damage("a frame of an unknown kind")

    def _header(self) -> Header:
        kind, body = self._frame()
        if kind != HEADER:
            raise self._damage("no header")
        version = self._decode(body, Versioned).version
        if version != VERSION:
            raise LogFileError(
                f"{self.name}: version {version} of the format, but this program reads version {VERSION}: "
                "use the Longshore that wrote it, or a newer one"
            )
        return self._decode(body, Header)

    def _frame(self) -> tuple[bytes, bytes]:
        prefix = self._file.read(_PREFIX.size)
        if not prefix:
            raise LogFileError(
                f"{self.name}: ends after {self._where()} without its last frame: the export did not finish"
            )
        kind, length, checksum = _PREFIX.unpack(prefix) if len(prefix) == _PREFIX.size else (b"", 0, 0)
        body = self._file.read(length) if kind and length <= LARGEST else b""
        if not kind or len(body) != length or _checksum(kind, body) != checksum:
            raise self._damage("cut short" if kind and len(body) < length <= LARGEST else "wrong checksum")
        if kind != FOOTER:
            self.digest.update(prefix + body)
            self.offset += len(prefix) + len(body)
        return kind, body

    def _whole(self, footer: Footer) -> Footer:
        if footer != Footer(self.records, self.digest.digest()):
            raise self._damage("the last frame is for other records")
        if self._file.read(1):
            raise self._damage("something follows the last frame")
        return footer

    def _inflate(self, body: bytes) -> bytes:
        inflating = zlib.decompressobj()
        try:
            inflated = inflating.decompress(body, LARGEST)
        except zlib.error as error:
            raise self._damage(str(error)) from None
        if not inflating.eof:
            raise self._damage("a frame that is too large")
        return inflated

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damage(str(error)) from None

    def _where(self) -> str:
        return f"record {self.records} (sequence {self.last.sequence})" if self.last else "no record"

    def _damage(self, what: str) -> LogFileError:
        return LogFileError(
            f"{self.name}: damaged at byte {self.offset}, after {self._where()}: {what}; everything before is good"
        )


class Writer:
    """A writer of a file. Add records, then `close`: a file without its last frame is incomplete, and readers say so.

    `records` is the number of records in the file, `last` the last one.
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self.records = 0
        self.last: Record | None = None
        self._file = file
        self._good: int | None = None
        self._digest = sha256()
        self._waiting: list[Record] = []
        self._size = 0
        self._put(beginning(header))

    @classmethod
    def after(cls, reader: Reader, file: BinaryIO) -> Writer:
        """Continue after the good part of a file. The first write cuts off the rest."""
        writer = cls.__new__(cls)
        writer.records, writer.last, writer._good = reader.records, reader.last, reader.offset
        writer._file, writer._digest = file, reader.digest.copy()
        writer._waiting, writer._size = [], 0
        return writer

    @property
    def sequence(self) -> int:
        """The sequence of the last record, 0 if there is none."""
        return self.last.sequence if self.last else 0

    def add(self, record: Record) -> None:
        """Add a record. A full frame is written."""
        self._waiting.append(record)
        self._size += len(record.payload)
        self.records += 1
        self.last = record
        if self._size >= FRAME:
            self.flush()

    def flush(self) -> None:
        """Write the waiting records as a frame. They can be read from then on."""
        records, self._waiting, self._size = self._waiting, [], 0
        if records:  # they are dropped even if the write fails, so that none is written twice
            self._put(_framed(RECORDS, zlib.compress(msgspec.msgpack.encode(records))))
            self._file.flush()

    def close(self) -> Footer:
        """Write the last frame. The file itself stays open."""
        self.flush()
        footer = Footer(self.records, self._digest.digest())
        self._put(_framed(FOOTER, msgspec.msgpack.encode(footer)))
        self._file.flush()
        return footer

    def _put(self, data: bytes) -> None:
        if self._good is not None:
            self._file.seek(self._good)
            self._file.truncate()
            self._good = None
        self._digest.update(data)
        self._file.write(data)


@contextmanager
def reading(path: str) -> Iterator[Reader]:
    """Open the log file of this name; "-" is standard input. Raises LogFileError for any other file."""
    with ExitStack() as stack:
        try:
            file = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise LogFileError(f"{path}: {error.strerror}") from None
        yield Reader(file, path)


def _is_possible(record: Record) -> bool:
    """Return whether a stream can have the sequence, and a calendar the times."""
    return 0 <= record.sequence < 1 << 64 and 0 <= record.time < LATEST and 0 <= record.began < LATEST


def beginning(header: Header) -> bytes:
    """Return the bytes before the records."""
    return MAGIC + _framed(HEADER, msgspec.msgpack.encode(header))


def _framed(kind: bytes, body: bytes) -> bytes:
    return _PREFIX.pack(kind, len(body), _checksum(kind, body)) + body


def _checksum(kind: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(kind + len(body).to_bytes(4, "big")))
