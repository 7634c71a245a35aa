"""The gateway's fold over a finished log: one moment of it, or many in a row."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec

from services.common.errors import LogFileError
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots.snapshot import copied
from services.metrics_gateway.state.state import State
from services.replay.log.log_range import LogRange
from services.replay.log.logfile import Record
from services.replay.log.source import Log, Readable
from services.replay.measure import Readings, increase, kept, measure

LONGEST_GAP = 10_000
"""Samples of an unchanged state between two messages; more of them show nothing. 15 s apart, they cover 41 hours. A
clock that is set from 1970 to now would make a hundred million."""


class View(msgspec.Struct, frozen=True):
    """The part of a log to look at: a range, an app (empty: all), and buckets."""

    range: LogRange = LogRange()
    app: str = ""
    buckets: dict[str, tuple[float, ...]] = {}


class Replay:
    """A fold in progress. It reads `log`; `damage` is the error that ended it before the end of the log.

    The replay calls `on_progress` with the state now and then, and starts from `state` if there is one. `gaps` are the
    times, from and to, without samples, because nothing was stored for very long. `belated` counts messages that were
    stored before the time of a sample that was already there.
    """

    def __init__(
        self, view: View, on_progress: Callable[[State], None] = lambda _: None, state: State | None = None
    ) -> None:
        self.state = state or State(buckets=view.buckets)
        self.log = Readable(_nothing())
        self.gaps: list[tuple[float, float]] = []
        self.belated = 0
        self._view = view
        self._on_progress = on_progress

    @property
    def damage(self) -> LogFileError | None:
        """The error that ended the log early."""
        return self.log.damage

    async def moment(self, log: Log) -> tuple[float, Readings]:
        """Return the metrics at the end of the range and its time; the growth, if the range has a beginning.

        A second state that forgets nothing counts what the fold forgets inside the range.
        """
        before: Readings = []
        counted: State | None = None
        log_range = self._view.range
        async for record in self._records(log):
            if log_range.first and not counted and log_range.has_begun(record.sequence, record.time):
                before, counted = kept(self._measured(self.state, self.state.time)), copied(self.state)
            self._apply(self.state, record)
            if counted:
                self._apply(counted, record, forget=False)
        now = self._now()
        readings = self._measured(self.state, now)
        if log_range.first is None:
            return now, readings
        totals = self._measured(counted, now) if counted else readings
        return now, increase(readings, totals, before if counted else readings)

    async def series(self, log: Log, every: float) -> AsyncIterator[tuple[float, Readings]]:
        """Yield the metrics at every `every` seconds of the range; the last ones are complete.

        The moments are multiples of `every`, or count from the time at which the range begins.
        """
        clock = _Clock(every, self._view.range)
        async for record in self._records(log):
            if not clock.is_running and self._view.range.has_begun(record.sequence, record.time):
                clock.start(record.time)
            for moment in clock.until(record.time):
                yield moment, self._measured(self.state, moment)
            self.belated += record.time < clock.given
            self._apply(self.state, record)
        for moment in clock.last(self.state.time, self._end() if self.log.is_cut else None):
            yield moment, self._measured(self.state, moment)
        self.gaps = clock.gaps

    def _measured(self, state: State, now: float) -> Readings:
        return measure(state, now, self._view.app)

    def _now(self) -> float:
        """Return the last moment: the end of the range, or when the last message was stored."""
        end = self._end() if self.log.is_cut else None
        return self.state.time if end is None else end

    def _end(self) -> float | None:
        return self._view.range.last.time if self._view.range.last else None

    def _apply(self, state: State, record: Record, forget: bool = True) -> None:
        apply(state, record.sequence, record.time, record.payload, record.subject, record.began, forget)

    async def _records(self, log: Log) -> AsyncIterator[Record]:
        self.log = Readable(log, self._view.range.last)
        async for records in self.log:
            for record in records:
                yield record
            self._on_progress(self.state)


async def _nothing() -> AsyncIterator[list[Record]]:
    for records in list[list[Record]]():
        yield records


class _Clock:
    """The moments of a series. `given` is the latest one so far. `gaps` are times with only their first moment."""

    def __init__(self, every: float, log_range: LogRange) -> None:
        self.is_running = False
        self.given = 0.0
        self.gaps: list[tuple[float, float]] = []
        self._every = every
        self._base = log_range.first.time if log_range.first and log_range.first.time is not None else 0.0
        self._number = 0

    @property
    def _next(self) -> float:
        return round(self._base + self._number * self._every, 3)

    def start(self, time: float) -> None:
        """Run from the first moment at or after `time` on."""
        self.is_running = True
        self._go_to(time)

    def until(self, time: float) -> Iterator[float]:
        """Yield the moments before `time` that are still to come."""
        if self.is_running and time - self._next > LONGEST_GAP * self._every:
            self.gaps.append((self._next, time))
            yield self._give()
            self._go_to(time)
        while self.is_running and self._next < time:
            yield self._give()

    def last(self, time: float, end: float | None) -> Iterator[float]:
        """Yield the remaining moments: to `end` if the log continues after it, else to the first complete one."""
        if not self.is_running:
            return
        yield from self.until(time if end is None else end)
        if end is None or self._next == round(end, 3):
            yield self._next

    def _give(self) -> float:
        self.given = self._next
        self._number += 1
        return self.given

    def _go_to(self, time: float) -> None:
        """Make the first moment at or after `time` the next one."""
        self._number = max(0, math.ceil((time - self._base) / self._every))
        while self._next < time:
            self._number += 1
