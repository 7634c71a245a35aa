"""Requests for streams of output, and what travels in the streams.

A request has the limits of the events that record it: no command runs whose record would be refused.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from schemas.limits import Name, Seconds, Text


class ReadLogs(msgspec.Struct, tag="logs", frozen=True):
    """Read the output of replicas; without names, of all that run.

    `since`: unix seconds, 0 for all; `ago`: seconds before now on the clock of the host,
    instead. `tail`: most lines of each replica from before now, -1 for all. `follow`: go on with what is printed from
    now on. `previous`: of the replica that ended before each of them, in the same slot.
    """

    replicas: list[Name] = []
    since: Seconds = 0.0
    ago: Seconds = 0.0
    tail: int = -1
    follow: bool = False
    previous: bool = False
    by: Name = ""


class Execute(msgspec.Struct, tag="exec", frozen=True):
    """Run a command in a running replica. `has_input`: the reader sends it input. `terminal`: its TERM, empty for none.

    `rows` and `columns`: the size of the terminal, 0 if unknown.
    """

    replica: Name
    command: list[Text]
    has_input: bool = False
    terminal: Name = ""
    rows: int = 0
    columns: int = 0
    by: Name = ""


class RunTask(msgspec.Struct, tag="run", frozen=True):
    """Run a command beside the replicas, in the current release. Fields as in Execute."""

    command: list[Text]
    has_input: bool = False
    terminal: Name = ""
    rows: int = 0
    columns: int = 0
    by: Name = ""


OutputRequest: TypeAlias = ReadLogs | Execute | RunTask

STDOUT, STDERR = 1, 2


class Opened(msgspec.Struct, frozen=True):
    """The answer: the stream's id, or why there is none. It has the fields of a Reply, for whom it is refused early."""

    ok: bool
    message: str = ""
    stream: str = ""


class Line(msgspec.Struct, array_like=True, frozen=True):
    """A line that a replica printed at `time` (unix seconds), without its end; a very long one comes in parts.

    `is_error`: on its standard error, where the runtime keeps them apart.
    """

    replica: str
    time: float
    text: bytes
    is_error: bool = False


_encoder = msgspec.msgpack.Encoder()
_lines = msgspec.msgpack.Decoder(list[Line])


def encode_lines(lines: list[Line]) -> bytes:
    """Return lines as a chunk of a stream."""
    return _encoder.encode(lines)


def encode_output(source: int, data: bytes) -> bytes:
    """Return what a command wrote to STDOUT or STDERR as a chunk of a stream."""
    return bytes([source]) + data


def output(chunk: bytes) -> tuple[int, bytes]:
    """Return the source and the data of a chunk."""
    return chunk[0], chunk[1:]


def lines(chunk: bytes) -> list[Line]:
    """Return the lines in a chunk. Raises msgspec.MsgspecError."""
    return _lines.decode(chunk)
