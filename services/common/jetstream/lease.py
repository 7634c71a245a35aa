"""A lease: one of several instances does a job, and another one takes over when it is gone.

The holder writes the key again and again. The others watch the key's revision. When it has not changed for the whole
term by an instance's own clock, the instance writes the key itself, unless another was quicker. Clocks of different
hosts are never compared.
"""

from __future__ import annotations

import asyncio

import msgspec
import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from schemas import codec, subjects
from schemas.routing import Lease as Value
from services.common import log
from services.common.bus.connection import Bus
from services.common.bus.deadline import clock

RELEASED = ""
"""The holder in the value of a released lease."""

UNKNOWN = "?"
"""The holder of a lease whose value cannot be read."""

TERM = 3.0
"""Seconds without a renewal after which a lease is free: three renewals in a row have failed by then."""

RENEWAL = 1.0
POLL_INTERVAL = 0.5
"""Seconds between two polls of an instance that waits."""


class Lease:
    """The lease of `key`, which `holder`, a unique id, has while `is_held`.

    `acquisitions` counts how often this holder took it from another or found it free: while the number stays the same,
    no other instance has held the lease. `processed`: the last message of the log that the holder has processed; the
    holder sets it, and the others read it. `other`: the other holder at the last look, in words. `is_superseded`:
    another has held it since. `holder`: the last known holder, None if there is none.
    """

    def __init__(self, bus: Bus, key: str, holder: str, host: str, term: float = TERM, description: str = "") -> None:
        self.key = key
        self.acquisitions = 0
        self.processed = 0
        self.other = ""
        self.holder: Value | None = None
        self.is_superseded = False
        self.is_released = False
        self._has_held = False
        self._description = description
        self._bus = bus
        self._holder = holder
        self._host = host
        self._term = term
        self._revision = 0
        self._seen = -1
        self._since = 0.0
        self._until = 0.0
        self._bucket: KeyValue | None = None
        self._writing = asyncio.Lock()
        self._log = log.get(bus.service)

    @property
    def is_held(self) -> bool:
        """The holder may act. False as soon as another may have the lease, also after this process was stopped."""
        return clock() < self._until

    async def run(self) -> None:
        """Acquire the lease when it is free, and renew it, until it is released."""
        while not self.is_released:
            await self.step()

    async def step(self) -> None:
        """Renew or poll the lease once, and wait until the next round is due."""
        was_held = self.is_held
        await self.round()
        if self.is_held != was_held:
            if self.is_held:
                self._log.debug("holds the lease", key=self.key)  # of no interest where there is only one
            else:
                self._log.info("does not hold the lease any more", key=self.key)
        await asyncio.sleep(RENEWAL if self.is_held else POLL_INTERVAL)

    async def round(self) -> None:
        """Renew the lease, or acquire it if it is free. A bus that does not answer is no error: the term ends."""
        try:
            await self._bus.until_connected()
            async with asyncio.timeout(self._term), self._writing:
                if not self.is_released and not (self._revision and await self._write(self._revision)):
                    await self._acquire_if_free()
        except (nats.errors.Error, TimeoutError) as error:
            self._bucket = None
            self._log.debug("the lease is not renewed", key=self.key, reason=str(error) or type(error).__name__)

    async def release(self) -> None:
        """Release the lease for good, so that the next holder need not wait, and finds `processed`."""
        self.is_released = True
        try:
            async with asyncio.timeout(self._term), self._writing:
                held, self._until = self.is_held, 0.0
                if held:
                    value = msgspec.json.encode(Value(RELEASED, self._host, self.processed))
                    await (await self._open()).update(self.key, value, last=self._revision)
        except (nats.errors.Error, TimeoutError) as error:
            self._log.debug("the lease is not released", key=self.key, reason=str(error) or type(error).__name__)

    async def _acquire_if_free(self) -> None:
        """Acquire the lease if it is free: never held, released, or not renewed for the term."""
        self._revision = 0
        revision, value = await self._read()
        if revision != self._seen:
            self._seen, self._since = revision, clock()
        self.holder = holder = value if value and value.holder != RELEASED else None
        is_mine = holder is not None and holder.holder == self._holder
        self.other = "" if holder is None or is_mine else holder.description or f"{holder.holder} on {holder.host}"
        if value is not None and value.holder != UNKNOWN and not is_mine:
            self.is_superseded = self._has_held
            self.processed = value.processed
        is_free = holder is None or clock() - self._since >= self._term
        if (is_mine or is_free) and await self._write(revision) and not is_mine:
            self.acquisitions += 1

    async def _read(self) -> tuple[int, Value | None]:
        """Return the newest revision, 0 if there is none, and its value; damage has an unknown holder."""
        try:
            entry = await (await self._open()).get(self.key)
        except nats.js.errors.KeyNotFoundError as error:
            return getattr(error.entry, "revision", None) or 0, None
        try:
            return entry.revision or 0, codec.value(entry.value or b"", Value)
        except msgspec.MsgspecError:
            return entry.revision or 0, Value(UNKNOWN, "")

    async def _write(self, last: int) -> bool:
        """Write the key unless it has changed since the revision `last`. Return whether the lease is ours now."""
        bucket, began = await self._open(), clock()
        value = Value(self._holder, self._host, self.processed, self._description)
        try:
            self._revision = await bucket.update(self.key, msgspec.json.encode(value), last=last)
        except nats.js.errors.KeyWrongLastSequenceError:
            self._until = 0.0
            return False
        self._until, self.holder = began + self._term, value
        self._has_held = True
        return True

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._bus.jetstream.key_value(subjects.LEASES)
        return self._bucket
