"""A lease: of several that could do something, one does, and another takes over when it is gone.

Who holds it writes the key again and again. Who does not looks on: once the key's revision has stood still for the
whole term by its own clock, it writes the key itself, if nobody else was quicker. No clock is compared with another.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from schemas import subjects
from schemas.routing import Lease as Value
from services.common import log
from services.common.bus import Bus

TERM = 3.0
RENEWAL = 1.0
LOOK = 0.25
"""Seconds between two looks of those that wait."""


def clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Held by `holder`, an id that nobody else has, while `is_held`."""

    def __init__(self, bus: Bus, key: str, holder: str, host: str, term: float = TERM) -> None:
        self.key = key
        self._bus = bus
        self._value = Value(holder, host)
        self._term = term
        self._revision = 0
        self._seen = -1
        self._since = 0.0
        self._until = 0.0
        self._log = log.get(bus.service)

    @property
    def is_held(self) -> bool:
        """Whether we may act. False as soon as somebody else might, also after this process was stopped for a while."""
        return clock() < self._until

    async def run(self) -> None:
        """Take it when it is free, and keep it, until cancelled."""
        while True:
            was_held = self.is_held
            try:
                await self._round()
            except (nats.errors.Error, TimeoutError) as error:
                self._log.debug("the lease is not renewed", key=self.key, reason=str(error) or type(error).__name__)
            if self.is_held != was_held:
                self._log.info("holds the lease" if self.is_held else "does not hold the lease any more", key=self.key)
            await asyncio.sleep(RENEWAL if self.is_held else LOOK)

    async def release(self) -> None:
        """Give it back, so that the next one need not wait."""
        held, self._until = self.is_held, 0.0
        try:
            async with asyncio.timeout(self._term):
                if held:
                    await (await self._bucket()).delete(self.key, last=self._revision)
        except (nats.errors.Error, TimeoutError) as error:
            self._log.debug("the lease is not given back", key=self.key, reason=str(error) or type(error).__name__)

    async def _round(self) -> None:
        await self._bus.until_connected()
        async with asyncio.timeout(self._term):
            bucket = await self._bucket()
            if self._revision and await self._write(bucket, self._revision):
                return
            await self._look(bucket)

    async def _look(self, bucket: KeyValue) -> None:
        """Take it if it is free: never held, given back, or not renewed for the term."""
        self._revision = 0
        revision, value = await self._read(bucket)
        if revision != self._seen:
            self._seen, self._since = revision, clock()
        is_mine = value is not None and value.holder == self._value.holder
        if value is None or is_mine or clock() - self._since >= self._term:
            await self._write(bucket, revision)

    async def _read(self, bucket: KeyValue) -> tuple[int, Value | None]:
        """The newest revision, 0 if there is none, and who holds it; rubbish is held by nobody we know."""
        try:
            entry = await bucket.get(self.key)
        except nats.js.errors.KeyNotFoundError as error:
            return getattr(error.entry, "revision", None) or 0, None
        try:
            return entry.revision or 0, msgspec.json.decode(entry.value or b"", type=Value)
        except msgspec.MsgspecError:
            return entry.revision or 0, Value("", "")

    async def _write(self, bucket: KeyValue, last: int) -> bool:
        """Whether nobody wrote it since the revision `last`, and so it is ours."""
        began = clock()
        try:
            self._revision = await bucket.update(self.key, msgspec.json.encode(self._value), last=last)
        except nats.js.errors.KeyWrongLastSequenceError:
            self._until = 0.0
            return False
        self._until = began + self._term
        return True

    async def _bucket(self) -> KeyValue:
        return await self._bus.jetstream.key_value(subjects.LEASES)
