"""The recent events, as /api/events shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from schemas import events as e
from schemas import subjects
from services.metrics_gateway.fold.recent import DETAILS
from services.metrics_gateway.state.state import RECENT_KEPT, State
from services.metrics_gateway.views.times import iso

KINDS = {kind.__name__: kind for kind in e.EVENT_TYPES}


class EventView(msgspec.Struct, frozen=True):
    """An event: its place in the log, its time, its publisher, its kind, and its other fields."""

    sequence: int
    time: str | None
    service: str
    host: str
    app: str
    kind: str
    details: dict[str, Any]


class Events(msgspec.Struct, frozen=True):
    """The answer of /api/events, newest first."""

    events: list[EventView]


class Wanted(msgspec.Struct, frozen=True):
    """A filter of events. Without kinds: all that are not details; with an empty app: all apps."""

    app: str = ""
    kinds: frozenset[str] = frozenset()

    def has(self, app: str, event: e.Event) -> bool:
        """Return whether an event passes the filter."""
        if self.app and app != self.app:
            return False
        return type(event).__name__ in self.kinds if self.kinds else type(event) not in DETAILS


def newest(state: State, wanted: Wanted, limit: int) -> Events:
    """Return the recent events that pass the filter, `limit` at most."""
    found: list[EventView] = []
    for one in reversed(state.recent[-RECENT_KEPT:]):
        if len(found) == limit:
            break
        if wanted.has(one.app, one.event):
            found.append(view(one.sequence, one.service, one.host, one.app, one.event))
    return Events(found)


def views(
    sequence: int, service: str, host: str, app: str, events: Iterable[e.Event], wanted: Wanted
) -> list[EventView]:
    """Return the events of a batch that pass the filter."""
    return [view(sequence, service, host, app, event) for event in events if wanted.has(app, event)]


def view(sequence: int, service: str, host: str, app: str, event: e.Event) -> EventView:
    """Return an event in the form of the API."""
    named = "" if app == subjects.NO_APP else app
    return EventView(sequence, iso(event.time), service, host, named, type(event).__name__, dict(_details(event)))


def _details(event: e.Event) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(event, name)) for name in event.__struct_fields__ if name != "time")
