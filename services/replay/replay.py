"""The gateway's fold over a log that is over: one moment of it, or many in a row."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import msgspec

from services.common.errors import LogFileError
from services.common.logfile import Record
from services.metrics_gateway.fold import apply
from services.metrics_gateway.state import State
from services.replay.measure import Readings, increase, kept, measure
from services.replay.source import Log
from services.replay.span import Span

T = TypeVar("T")


class View(msgspec.Struct, frozen=True):
    """What of a log is looked at: between which moments, of which app (empty: all), in which buckets."""

    span: Span = Span()
    app: str = ""
    buckets: dict[str, tuple[float, ...]] = {}


class Replay:
    """A fold under way. `damage` is what ended it before the end of the log, `is_cut` that the log goes on after it.
    A log of which nothing can be read is a LogFileError.

    `tell` is called with the state now and then. `state`: what to go on from, if not from nothing.
    """

    def __init__(self, view: View, tell: Callable[[State], None] = lambda _: None, state: State | None = None) -> None:
        self.state = state or State(buckets=view.buckets)
        self.damage: LogFileError | None = None
        self.is_cut = False
        self._view = view
        self._tell = tell

    async def moment(self, log: Log) -> tuple[float, Readings]:
        """The metrics at the end of the span, and when that was; since its beginning, if it has one."""
        before: Readings = []
        is_inside = self._view.span.first is None
        async for record in self._records(log):
            if not is_inside and self._view.span.has_begun(record.sequence, record.time):
                before, is_inside = kept(self._measured(self.state.time)), True
            self._apply(record)
        now = self._now()
        readings = self._measured(now)
        return now, increase(readings, before if is_inside else readings)

    async def series(self, log: Log, every: float) -> AsyncIterator[tuple[float, Readings]]:
        """The metrics of every `every` seconds of the span, each as it stood then; the last one has everything.

        The moments are multiples of `every`, or count from the time at which the span begins.
        """
        clock = _Clock(every, self._view.span)
        async for record in self._records(log):
            if not clock.is_running and self._view.span.has_begun(record.sequence, record.time):
                clock.start(record.time)
            for moment in clock.until(record.time):
                yield moment, self._measured(moment)
            self._apply(record)
        for moment in clock.last(self.state.time, self._end() if self.is_cut else None):
            yield moment, self._measured(moment)

    def _measured(self, now: float) -> Readings:
        return measure(self.state, now, self._view.app)

    def _now(self) -> float:
        """The moment at which a log ends: when the span says so, else when its last message was stored."""
        end = self._end() if self.is_cut else None
        return self.state.time if end is None else end

    def _end(self) -> float | None:
        return self._view.span.last.time if self._view.span.last else None

    def _apply(self, record: Record) -> None:
        apply(self.state, record.sequence, record.time, record.payload, record.subject)

    async def _records(self, log: Log) -> AsyncIterator[Record]:
        try:
            async for records in log:
                for record in records:
                    if self._view.span.is_over(record.sequence, record.time):
                        self.is_cut = True
                        return
                    yield record
                self._tell(self.state)
        except LogFileError as error:
            if not self.state.position:
                raise
            self.damage = error


class _Clock:
    """The moments of a series."""

    def __init__(self, every: float, span: Span) -> None:
        self.is_running = False
        self._every = every
        self._base = span.first.time if span.first and span.first.time is not None else 0.0
        self._number = 0

    @property
    def _next(self) -> float:
        return round(self._base + self._number * self._every, 3)

    def start(self, time: float) -> None:
        """Run from the first moment at or after `time` on."""
        self.is_running = True
        self._number = max(0, math.ceil((time - self._base) / self._every))
        while self._next < time:
            self._number += 1

    def until(self, time: float) -> list[float]:
        """The moments before `time` that have not been given."""
        found = []
        while self.is_running and self._next < time:
            found.append(self._next)
            self._number += 1
        return found

    def last(self, time: float, end: float | None) -> list[float]:
        """The moments that remain: to `end` if the log goes on after it, else to the first that has everything."""
        if not self.is_running:
            return []
        if end is not None:
            return [*self.until(end), *([end] if self._next == round(end, 3) else [])]
        return [*self.until(time), self._next]
