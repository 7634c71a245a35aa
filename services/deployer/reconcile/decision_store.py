"""Decisions, which outlive the deployer, and events, which record what it did."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from schemas import codec, subjects
from schemas.events import AnyEvent, Event
from schemas.routing import Decisions
from services.common.errors import BusError
from services.common.process.lifecycle import Context

FLUSH_TIMEOUT = 2.0
"""Seconds to wait until the log has the events. After that they stay with the decisions, for the next deployer."""

Notify: TypeAlias = Callable[[Event, str], None]


class DecisionStore:
    """The decisions and events of one app on this host."""

    def __init__(self, context: Context, app: str, notify: Notify) -> None:
        """Start without decisions. `notify` gets each recorded event, and the release of the deployment under way."""
        self.decisions = Decisions()
        self._notify = notify
        self._context = context
        self._app = app
        self._key = subjects.decisions_key(context.host, app)
        self._is_unsure = False

    async def load(self) -> None:
        """Read the decisions of an earlier deployer, and record the events that it could not record."""
        value = await self._context.bus.get(subjects.DECISIONS, self._key)
        try:
            found = Decisions() if value is None else codec.value(value, Decisions)
        except msgspec.MsgspecError as error:
            self._context.log.error("the decisions are damaged: starting without", key=self._key, reason=str(error))
            return
        self.decisions = replace(found, pending_events=b"", removed=found.removed and bool(found.removed_by))
        await self._record_all(self._pending(found.pending_events))

    def _pending(self, encoded: bytes) -> list[AnyEvent]:
        """Decode the events that the last deployer could not record. Damage to them costs no decision."""
        try:
            return codec.decode_events(encoded) if encoded else []
        except msgspec.MsgspecError as error:
            self._context.log.error("events of the last decision are damaged: lost", key=self._key, reason=str(error))
            return []

    async def commit(self, decisions: Decisions, *events: Event) -> None:
        """Write decisions, then record their events. Raises BusError if the write failed; nothing is decided then.

        The events are written together with the decisions, so that a deployer that is killed in between loses neither.
        If it is killed after it recorded them, the events come twice, and the fold counts them once.
        """
        await self._put(replace(decisions, pending_events=codec.encode_events(events) if events else b""))
        self.decisions = decisions
        await self._record_all(events)

    async def write(self) -> None:
        """Write the decisions as they are: they were never written, or the bus may have lost them."""
        await self.commit(self.decisions)

    async def settle(self) -> None:
        """Write the decisions as they are if the bus never acknowledged the last write, and so may hold others."""
        if self._is_unsure:
            await self.write()

    def record(self, event: Event) -> None:
        """Put an event on the log, and pass it to `notify`."""
        self._context.record(event, self._app)
        ongoing = self.decisions.ongoing
        self._notify(event, ongoing.release if ongoing else "")

    async def _record_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self.record(event)
        if events and await self._context.outbox.flush(FLUSH_TIMEOUT):
            with contextlib.suppress(BusError):
                await self._put(self.decisions)

    async def _put(self, decisions: Decisions) -> None:
        self._is_unsure = True
        await self._context.bus.put(subjects.DECISIONS, self._key, decisions)
        self._is_unsure = False
