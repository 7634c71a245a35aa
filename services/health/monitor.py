"""The monitor of one replica, which it probes until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

from schemas.events import Event, HealthChanged, HealthChecked
from schemas.routing import Health, Replica
from services.health.probe import Outcome
from services.health.thresholds import Tally, observe, pause
from services.health.verdicts import Verdicts


class Monitor:
    """Probes one replica. Each probe is an event; each change of verdict is an event and a value in the bucket."""

    def __init__(
        self,
        key: str,
        replica: Replica,
        probe: Callable[[Replica], Awaitable[Outcome]],
        record: Callable[[Event, str], None],
        verdicts: Verdicts,
    ) -> None:
        self.replica = replica
        self._key = key
        self._probe = probe
        self._record = record
        self._verdicts = verdicts
        known = verdicts.get(key)
        self._tally = Tally(proven=known is not None and not known.starting)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Probe no more. The probe in progress still ends and is recorded, but gives no verdict."""
        self._stopped.set()

    async def run(self) -> None:
        """Probe now, and then at intervals."""
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            started = loop.time()
            self._report(await self._probe(self.replica))
            due = started + pause(self._tally, self.replica.check, random.random())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stopped.wait()

    def _report(self, outcome: Outcome) -> None:
        now = time.time()
        self._record(
            HealthChecked(now, self.replica.id, outcome.passed, outcome.latency, outcome.reason), self.replica.app
        )
        if self._stopped.is_set():
            return
        before, self._tally = self._tally, observe(self._tally, outcome.passed, self.replica.check)
        if self._tally.verdict is not None and self._tally.verdict != before.verdict:
            self._change(now, self._tally.verdict, outcome.reason)
        elif not self._tally.proven:
            self._report_not_ready(now, outcome.reason)

    def _report_not_ready(self, now: float, reason: str) -> None:
        known = self._verdicts.get(self._key)
        if known is None or known.reason != reason:
            self._put(False, now, reason, starting=True)

    def _change(self, now: float, healthy: bool, reason: str) -> None:
        self._record(HealthChanged(now, self.replica.id, healthy, reason), self.replica.app)
        before = self._verdicts.get(self._key)
        since = before.since if before and before.healthy == healthy else now
        self._put(healthy, since, reason)

    def _put(self, healthy: bool, since: float, reason: str, starting: bool = False) -> None:
        replica = self.replica
        self._verdicts.put(self._key, Health(replica.app, replica.id, healthy, since, reason, starting, replica.pid))
