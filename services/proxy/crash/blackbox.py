"""A worker's last words: what it recorded and has not told its master yet, in memory that outlives it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import msgspec

SIZE = 1 << 20
"""Bytes. What does not fit is lost with the worker: more than ten thousand events that the master has not read."""

_LENGTH = 4
_NOTHING = bytes(_LENGTH)


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """An encoded event; `number` counts all that the worker recorded."""

    app: str
    number: int
    event: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def create() -> int:
    """A descriptor of such memory, which a child can inherit. Raises OSError."""
    fd = os.memfd_create("longshore-blackbox")
    try:
        os.ftruncate(fd, SIZE)
    except BaseException:
        os.close(fd)
        raise
    return fd


class BlackBox:
    """The worker's end. A note counts once its length is written: a worker may be killed between any two steps."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: as `create` gave it; -1: memory that nobody else sees."""
        self._memory = mmap.mmap(fd, SIZE)
        self._end = 0

    def append(self, app: str, number: int, event: bytes) -> None:
        """Add an event, if there is room."""
        content = _encoder.encode((app, number, event))
        begin = self._end + _LENGTH
        end = begin + len(content)
        if end + _LENGTH > SIZE:
            return
        self._memory[begin : end + _LENGTH] = content + _NOTHING
        self._memory[self._end : begin] = len(content).to_bytes(_LENGTH, "little")
        self._end = end

    def clear(self) -> None:
        """All of it was told."""
        self._memory[:_LENGTH] = _NOTHING
        self._end = 0


def read(fd: int) -> Iterator[Entry]:
    """What a worker that is dead had not told, and perhaps some that it had, in the order of their numbers."""
    with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as memory:
        position = 0
        while length := int.from_bytes(memory[position : position + _LENGTH], "little"):
            begin = position + _LENGTH
            position = begin + length
            yield _decoder.decode(memory[begin:position])
