"""The deployer's memory: decisions, which outlive it, and events, which tell what it did."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from schemas import codec, subjects
from schemas.events import AnyEvent, Event
from schemas.routing import Decisions
from services.common.errors import BusError
from services.common.process.lifecycle import Context

FLUSH_TIMEOUT = 2.0


class DecisionStore:
    """Decisions and events of one app on this host. `observe` is called with each event, after it was recorded."""

    def __init__(self, context: Context, app: str) -> None:
        self.decisions = Decisions()
        self.observe: Callable[[Event], None] = lambda _: None
        self._context = context
        self._app = app
        self._key = subjects.decisions_key(context.host, app)
        self._is_unsure = False

    async def load(self) -> None:
        """Read what an earlier deployer decided, and tell what it could not tell any more."""
        value = await self._context.bus.get(subjects.DECISIONS, self._key)
        try:
            found = Decisions() if value is None else codec.value(value, Decisions)
        except msgspec.MsgspecError as error:
            self._context.log.error("the decisions are damaged: begun anew", key=self._key, reason=str(error))
            return
        self.decisions = replace(found, telling=b"", removed=False)
        await self._tell(self._unreported(found.telling))

    def _unreported(self, telling: bytes) -> list[AnyEvent]:
        """What the last deployer could not tell. Damage there takes no decision with it."""
        try:
            return codec.decode_events(telling) if telling else []
        except msgspec.MsgspecError as error:
            self._context.log.error("events of the last decision are damaged: lost", key=self._key, reason=str(error))
            return []

    async def commit(self, decisions: Decisions, *events: Event) -> None:
        """Decide something, and tell. Raises BusError when it could not be written; nothing is decided then.

        What is to be told is written together with what was decided, so that a deployer that is killed in between
        loses neither. Should it be killed after it has told, the events come twice, and the fold counts them once.
        """
        await self._put(replace(decisions, telling=codec.encode_events(events) if events else b""))
        self.decisions = decisions
        await self._tell(events)

    async def write(self) -> None:
        """Write the decisions as they are: nobody wrote them yet, or the bus may have lost them."""
        await self.commit(self.decisions)

    async def settle(self) -> None:
        """Write the decisions as they are if the bus may hold others, whose write it never acknowledged."""
        if self._is_unsure:
            await self.write()

    def record(self, event: Event) -> None:
        self._context.record(event, self._app)
        self.observe(event)

    async def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self.record(event)
        if events and await self._context.outbox.flush(FLUSH_TIMEOUT):
            with contextlib.suppress(BusError):
                await self._put(self.decisions)

    async def _put(self, decisions: Decisions) -> None:
        self._is_unsure = True
        await self._context.bus.put(subjects.DECISIONS, self._key, decisions)
        self._is_unsure = False
