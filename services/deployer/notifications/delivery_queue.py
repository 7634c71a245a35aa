"""Delivery of notices to one target, one after the other. An unreachable target delays nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.deployer.notifications.errors import UndeliveredError
from services.deployer.notifications.notice import Notice

MOST_WAITING = 100
"""Notices of some kilobytes each: more is not worth the memory while a target is unreachable."""
DEADLINE = 30.0
PAUSES = (1.0, 5.0, 25.0)

Deliver = Callable[[Notice], Awaitable[None]]
Log = structlog.typing.FilteringBoundLogger


class DeliveryQueue:
    """The notices that wait for one target.

    `deliver` raises UndeliveredError; it is retried after each of `pauses` seconds. Beyond MOST_WAITING notices, the
    oldest are dropped. An unreachable target is logged once, and once more when it takes notices again.
    """

    def __init__(
        self, name: str, deliver: Deliver, log: Log, pauses: Sequence[float] = PAUSES, deadline: float = DEADLINE
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._log = log
        self._pauses = pauses
        self._deadline = deadline
        self._waiting: deque[Notice] = deque(maxlen=MOST_WAITING)
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._lost = 0
        self._is_failing = False

    def put(self, notice: Notice) -> None:
        """Queue a notice. Never waits."""
        if len(self._waiting) == MOST_WAITING:
            self._lost += 1
        self._waiting.append(notice)
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                await self._deliver_or_drop(self._waiting.popleft())
            self._arrived.clear()
            self._idle.set()

    async def until_idle(self) -> None:
        """Return when no notice is left to deliver."""
        await self._idle.wait()

    async def _deliver_or_drop(self, notice: Notice) -> None:
        try:
            await self._attempt_with_retries(notice)
        except UndeliveredError as error:
            self._lost += 1
            if not self._is_failing:
                self._log.warning("notices do not arrive", target=self._name, reason=str(error))
            self._is_failing = True
        else:
            if self._is_failing or self._lost:
                self._log.info("notices arrive again", target=self._name, lost=self._lost)
            self._is_failing, self._lost = False, 0

    async def _attempt_with_retries(self, notice: Notice) -> None:
        for pause in self._pauses:
            try:
                return await self._attempt(notice)
            except UndeliveredError as error:
                if error.is_final:
                    raise
            await asyncio.sleep(pause)
        return await self._attempt(notice)

    async def _attempt(self, notice: Notice) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                await self._deliver(notice)
        except TimeoutError:
            raise UndeliveredError(f"no answer within {self._deadline:g} s") from None
        except UndeliveredError:
            raise
        except Exception as error:  # a notice must not end the deployer, whatever the error is
            raise UndeliveredError(f"unexpected {type(error).__name__}") from None
