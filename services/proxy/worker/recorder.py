"""Collects events and hands them to the master in batches."""

from __future__ import annotations

import time

import msgspec

from schemas import subjects
from schemas.codec import encode_events
from schemas.events import Event, EventsDropped
from services.proxy.messages import Recorded
from services.proxy.worker.channel import Channel
from services.proxy.worker.loop import Loop
from services.proxy.worker.timers import Timed

FLUSH_EVENTS = 512
FLUSH_INTERVAL = 0.05


class Recorder:
    """Never waits: while the master does not read, batches are dropped beyond a limit, and counted."""

    def __init__(self, loop: Loop, channel: Channel) -> None:
        self.slot: set[Timed] | None = None
        self._loop = loop
        self._channel = channel
        self._fresh: dict[str, list[Event]] = {}
        self._dropped = 0

    def record(self, app: str, event: Event) -> None:
        events = self._fresh.setdefault(app, [])
        events.append(event)
        if len(events) >= FLUSH_EVENTS:
            self._send(app)
        elif self.slot is None:
            self._loop.set_timer(self, FLUSH_INTERVAL)

    def on_timer(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Hand over everything now."""
        if self._dropped and not self._channel.is_congested:
            self._fresh.setdefault(subjects.NO_APP, []).append(EventsDropped(time.time(), self._dropped))
            self._dropped = 0
        for app in list(self._fresh):
            self._send(app)

    def _send(self, app: str) -> None:
        events = self._fresh.pop(app)
        if self._channel.is_congested:
            self._dropped += len(events)
        else:
            self._channel.send(Recorded(app, len(events), msgspec.Raw(encode_events(events))))
