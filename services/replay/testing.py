"""Time travel in tests: a recorded log as it stood after any of its events. `longshore.testing` makes it public."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from schemas import codec
from schemas.codec import Batch
from schemas.events import AnyEvent
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.instruments.instrument import Value
from services.metrics_gateway.state.state import State
from services.replay.exposition import text
from services.replay.log import logfile
from services.replay.log.logfile import Record
from services.replay.measure import Readings, measure

Stop: TypeAlias = int | Callable[[AnyEvent], bool] | None


class ReplayPoint(msgspec.Struct, frozen=True):
    """A moment: the gateway's state, the time (unix seconds), and the last event before it, if there was one."""

    state: State
    time: float
    event: AnyEvent | None

    @property
    def readings(self) -> Readings:
        """The readings of all instruments."""
        return measure(self.state, self.time)

    def metrics(self) -> str:
        """Return the metrics as in a scrape."""
        return text(self.readings)

    def value(self, metric: str, **labels: str) -> Value:
        """Return a series by the metric's OpenTelemetry or /metrics name. Raises LookupError if there is none."""
        for one, values in self.readings:
            if metric in (one.name, one.prometheus, *one.aliases):
                for found, value in values:
                    if labels.items() <= dict(zip(one.labels, found, strict=True)).items():
                        return value
        raise LookupError(f"no series {metric} {labels}")


class TimeTravel:
    """A log file, to be replayed any number of times."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)

    def events(self) -> list[AnyEvent]:
        """Return all events in the order of the log. `to(n)` is the moment after the n-th, counted from 1."""
        return [event for record in self._records() for event in _events(record)]

    def to(self, stop: Stop = None) -> ReplayPoint:
        """Return the moment after event number `stop`, after the first event that fits it, or at the end of the log.

        Raises LookupError if there is no such event.
        """
        state, number, last = State(), 0, None
        for record in self._records():
            for place, event in enumerate(_events(record), 1):
                number, last = number + 1, event
                if stop is not None and (number == stop if isinstance(stop, int) else stop(event)):
                    apply(
                        state, record.sequence, record.time, _cut(record.payload, place), record.subject, record.began
                    )
                    return ReplayPoint(state, record.time, event)
            apply(state, record.sequence, record.time, record.payload, record.subject, record.began)
        if stop:
            raise LookupError(f"{self._path}: no such event among its {number}")
        return ReplayPoint(state, state.time, last) if stop is None else ReplayPoint(State(), 0.0, None)

    def _records(self) -> Iterator[Record]:
        with logfile.reading(self._path) as file:
            for records in file:
                yield from records


def _events(record: Record) -> list[AnyEvent]:
    try:
        return codec.decode(record.payload).batch.events
    except msgspec.MsgspecError:
        return []


def _cut(payload: bytes, count: int) -> bytes:
    """Return the batch with its first events only."""
    batch: Batch = codec.decode(payload).batch
    return codec.encode(msgspec.structs.replace(batch, events=batch.events[:count]))
