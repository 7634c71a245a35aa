"""The last events, as /api/events tells them. Pure."""

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
    """One event: its place in the log, when it happened, who tells it, and what else it says, by its kind."""

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
    """Which events somebody asks for. No kinds: those that are not details; an empty app: all."""

    app: str = ""
    kinds: frozenset[str] = frozenset()

    def has(self, app: str, event: e.Event) -> bool:
        if self.app and app != self.app:
            return False
        return type(event).__name__ in self.kinds if self.kinds else type(event) not in DETAILS


def newest(state: State, wanted: Wanted, limit: int) -> Events:
    """The last events that are wanted, `limit` at most, of those that the state still holds."""
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
    """Those of a batch's events that are wanted."""
    return [view(sequence, service, host, app, event) for event in events if wanted.has(app, event)]


def view(sequence: int, service: str, host: str, app: str, event: e.Event) -> EventView:
    named = "" if app == subjects.NO_APP else app
    return EventView(sequence, iso(event.time), service, host, named, type(event).__name__, dict(_details(event)))


def _details(event: e.Event) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(event, name)) for name in event.__struct_fields__ if name != "time")
