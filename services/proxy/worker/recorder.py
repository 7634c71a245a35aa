"""The recorder: it sends events to the master in sealed batches."""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from schemas import subjects
from schemas.chain import SealedBatch, Sealer
from schemas.codec import encode_event, joined, kind
from schemas.events import Event, EventsDropped
from services.proxy.crash.blackbox import BlackBox
from services.proxy.messages import ForwardBatch
from services.proxy.worker.channel import Channel
from services.proxy.worker.loop import Loop
from services.proxy.worker.timers import Timed

FLUSH_EVENTS = 512
"""Events of one application that make a batch before FLUSH_INTERVAL (seconds) is over."""

FLUSH_INTERVAL = 0.05


class Recorder:
    """Records events without waiting: while the master does not read, it drops batches beyond a limit and counts them.

    `unacknowledged`: the batches that would be lost with the master, by sequence.
    """

    def __init__(self, loop: Loop, channel: Channel, sealer: Sealer, blackbox: BlackBox) -> None:
        self.slot: set[Timed] | None = None
        self.unacknowledged: dict[int, SealedBatch] = {}
        self._loop = loop
        self._channel = channel
        self._sealer = sealer
        self._blackbox = blackbox
        self._number = 0
        self._fresh: dict[str, list[bytes]] = {}
        self._dropped: Counter[str] = Counter()

    def record(self, app: str, event: Event) -> None:
        """Add an event to the next batch of an application."""
        encoded = encode_event(event)
        self._number += 1
        self._blackbox.append(app, self._number, encoded)
        events = self._fresh.setdefault(app, [])
        events.append(encoded)
        if len(events) >= FLUSH_EVENTS:
            self._send(app)
        elif self.slot is None:
            self._loop.set_timer(self, FLUSH_INTERVAL)

    def on_timer(self) -> None:
        """Send the collected events."""
        self.flush()

    def flush(self) -> None:
        """Send all collected events now."""
        if self._dropped and not self._channel.is_congested:
            self._fresh.setdefault(subjects.NO_APP, []).append(encode_event(self._dropped_event()))
            self._dropped.clear()
        for app in list(self._fresh):
            self._send(app)
        if self._channel.is_drained:
            self._blackbox.clear()

    def acknowledge(self, sequence: int) -> None:
        """Forget a batch that is on the bus or on disk."""
        self.unacknowledged.pop(sequence, None)

    def _send(self, app: str) -> None:
        events = self._fresh.pop(app)
        if self._channel.is_congested:
            self._dropped.update(map(kind, events))
            return
        payload = self._sealer.seal(app, msgspec.Raw(joined(events)))
        sequence = self._sealer.sequence
        batch = SealedBatch(app, f"{self._sealer.instance}:{sequence}", len(events), payload)
        self.unacknowledged[sequence] = batch
        self._channel.send(ForwardBatch(batch, sequence, self._number))

    def _dropped_event(self) -> EventsDropped:
        return EventsDropped(time.time(), self._dropped.total(), dict(self._dropped))
