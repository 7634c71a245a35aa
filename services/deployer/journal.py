"""The deployer's memory: decisions, which outlive it, and events, which tell what it did."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas import codec, subjects
from schemas.events import Event
from schemas.routing import Decisions
from services.common.lifecycle import Context

FLUSH_TIMEOUT = 2.0


class Journal:
    """Decisions and events of one app on this host. `observe` is called with each event, after it was recorded."""

    def __init__(self, context: Context, app: str) -> None:
        self.decisions = Decisions()
        self.observe: Callable[[Event], None] = lambda _: None
        self._context = context
        self._app = app
        self._key = subjects.decisions_key(context.host, app)

    async def load(self) -> None:
        """Read what an earlier deployer decided."""
        value = await self._context.bus.get(subjects.DECISIONS, self._key)
        try:
            self.decisions = Decisions() if value is None else codec.value(value, Decisions)
        except msgspec.MsgspecError as error:
            self._context.log.error("the decisions are damaged: begun anew", key=self._key, reason=str(error))

    async def commit(self, decisions: Decisions, *events: Event) -> None:
        """Decide something, and tell. Raises BusError when it could not be written; nothing is decided then."""
        await self._context.bus.put(subjects.DECISIONS, self._key, decisions)
        self.decisions = decisions
        for event in events:
            self.record(event)
        if events:
            await self._context.outbox.flush(FLUSH_TIMEOUT)

    async def write(self) -> None:
        """Write the decisions as they are: nobody wrote them yet, or the bus may have lost them."""
        await self.commit(self.decisions)

    def record(self, event: Event) -> None:
        self._context.record(event, self._app)
        self.observe(event)
