"""Loading the state at the start, and saving it from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import time

from structlog.typing import FilteringBoundLogger

from services.common.bus.connection import Bus
from services.common.bus.nats_client import RECONNECT_WAIT
from services.common.errors import BusError
from services.common.jetstream.log_reader import Stream, describe
from services.metrics_gateway.log_health import WARNINGS
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.snapshots.snapshot import resume
from services.metrics_gateway.snapshots.store import REPLACED, Store

INTERVAL = 10.0
"""Seconds between two saves, when few events come."""

EVENTS = 100_000
"""Events between two saves, when many come. A restarted gateway folds them in a fraction of a second."""

BEGINS_LATE = "no snapshot can be used and the log has lost its beginning: the numbers count the rest of it"


class Saver:
    """Saves the state of a gateway every `interval` seconds or `events` events, one save at a time."""

    def __init__(
        self,
        projection: Projection,
        bus: Bus,
        store: Store,
        logger: FilteringBoundLogger,
        interval: float = INTERVAL,
        events: int = EVENTS,
    ) -> None:
        self._projection = projection
        self._bus = bus
        self._store = store
        self._log = logger
        self._interval = interval
        self._events = events
        self._stream = ""
        self._position = 0
        self._tried_at = 0
        self._failing = False
        self._due = asyncio.Event()
        self._closing = False
        self._acquisitions = 0

    async def restore(self) -> None:
        """Load the newest saved state. Wait for the bus: numbers that are too low are worse than none."""
        while True:
            await self._bus.until_connected()
            try:
                stream = await describe(self._bus)
                state = await self._store.load(stream)
                break
            except BusError as error:
                self._log.warning("cannot load the snapshots, trying again", reason=str(error))
                await asyncio.sleep(RECONNECT_WAIT)
        # The state belongs to this stream: one that is created again later is another.
        self._stream = stream.created
        if state:
            self._projection.state = state
            self._position, self._tried_at = state.position, state.events
            self._warn_lost_messages(stream)
        elif stream.first > 1:
            self._log.warning(BEGINS_LATE, messages=stream.first - 1)
        self._projection.state.log = self._projection.state.log or stream.created

    @property
    def stream(self) -> str:
        """The creation time of the stream from which the state is folded."""
        return self._stream

    def follow(self, stream: Stream) -> None:
        """Continue with a log that was created again, or has lost its end, and keep the sums."""
        self._log.warning(REPLACED, messages=stream.last, folded=self._projection.state.position)
        self._projection.state.position = resume(
            self._projection.state.position, self._stream, stream.created, stream.last
        )
        self._stream, self._position = stream.created, -1

    def folded(self) -> None:
        """Note that the state has grown."""
        if self._projection.state.events - self._tried_at >= self._events:
            self._due.set()

    async def run(self) -> None:
        """Save whenever it is due, and once more after `close`."""
        is_last = False
        while not is_last:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()
            self._due.clear()
            is_last = self._closing
            await self.save()

    def close(self) -> None:
        """Make `run` save once more, and end."""
        self._closing = True
        self._due.set()

    async def save(self) -> None:
        """Save the state if it has changed. If the bus does not take it, the next save makes up for it."""
        state = self._projection.state
        if not self._projection.has_role("snapshots"):
            self._projection.saved = time.time()  # another gateway saves
            return
        if state.position == self._position or not self._projection.is_whole or not self._bus.is_connected:
            return
        position, self._tried_at = state.position, state.events
        try:
            await self._survey()
            await self._store.save(snapshot.encode(state, self._stream))
        except BusError as error:
            self._report(str(error))
            return
        self._report(None)
        self._position = position
        self._projection.saved = time.time()

    async def _survey(self) -> None:
        """Find the oldest snapshot again after a takeover, because the other gateway has saved meanwhile."""
        lease = self._projection.leases.get("snapshots")
        if lease and lease.acquisitions != self._acquisitions:
            acquisitions = lease.acquisitions
            await self._store.survey(await describe(self._bus))
            self._acquisitions = acquisitions

    def _report(self, problem: str | None) -> None:
        if problem and not self._failing:
            self._log.warning("cannot save a snapshot, trying again", reason=problem)
        if self._failing and not problem:
            self._log.info("snapshots are saved again")
        self._failing = problem is not None

    def _warn_lost_messages(self, stream: Stream) -> None:
        if lost := self._projection.skip_lost(stream.first):
            self._log.warning(WARNINGS["messages_lost"], count=lost, up_to=stream.first - 1)
