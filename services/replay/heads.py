"""Processes with the digests of their newest batches, from an earlier audit of a log. No I/O, no clock."""

from __future__ import annotations

import msgspec

from services.common.errors import LogFileError


class Head(msgspec.Struct, frozen=True):
    """A line of `longshore verify --json`: a process, its newest batch then, and the position of that in the log.

    `head` is the batch's digest in hexadecimal digits, empty for a process that did not chain; `time` is when it was
    stored (unix seconds).
    """

    service: str
    host: str
    id: str
    last: int
    head: str = ""
    sequence: int = 0
    time: float = 0.0


class Heads:
    """The list, and the part of it that the audit has found in the log."""

    def __init__(self, heads: list[Head]) -> None:
        self._heads = {one.id: one for one in heads}
        self._met: set[str] = set()
        self._sequence = max((one.sequence for one in heads), default=0)
        self._time = max((one.time for one in heads), default=0.0)

    def fits(self, instance: str, number: int, digest: str) -> bool:
        """Return False if the batch has the number of its process's head in the list, but another digest."""
        kept = self._heads.get(instance)
        if kept is None or kept.last != number:
            return True
        self._met.add(instance)
        return not kept.head or kept.head == digest

    def unmet(self) -> list[Head]:
        """Return the heads whose batch was not read."""
        return [one for one in self._heads.values() if one.id not in self._met]

    def is_new(self, instance: str, sequence: int, time: float) -> bool:
        """Return whether a process whose first message has this position may be absent from the list.

        It may if it is in the log later than everything in the list. By one measure alone it also looks later after an
        import, or when a clock was set back.
        """
        return instance in self._heads or sequence > self._sequence or time > self._time


def parse(lines: list[bytes], path: str) -> list[Head]:
    """Return the list in the lines of a file. Raises LogFileError, also for an empty one, which shows nothing."""
    try:
        heads = [msgspec.json.decode(line, type=Head) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LogFileError(
            f"{path}: not a list of heads ({error}): write one with `longshore verify --json >{path}`"
        ) from None
    if not heads:
        raise LogFileError(f"{path}: no heads in it: write some with `longshore verify --json >{path}`")
    return heads
