"""Key-value buckets: single keys, and what is left of those that are deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import nats.js.errors
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

MARKER_TTL = 900.0
"""Seconds that the marker of a deleted key stays. A reader's consumer ends 120 s after the reader was heard last
(`services.common.jetstream.consumer.IDLE`), and its next one reads every key again: no reader misses a marker that
stays longer."""


class Bucket(msgspec.Struct, frozen=True):
    """`has_ttl`: whether a message there may have a lifetime of its own (nats-server 2.11 and newer)."""

    values: KeyValue
    has_ttl: bool

    async def delete(self, key: str) -> None:
        """Leave a marker in the place of a key, which goes by itself if it can."""
        if self.has_ttl:
            await self.values.purge(key, msg_ttl=MARKER_TTL)
        else:
            await self.values.delete(key)


class Buckets:
    """The buckets that a connection uses, each looked up once. Methods raise the client's errors."""

    def __init__(self, jetstream: Callable[[], JetStreamContext]) -> None:
        self._jetstream = jetstream
        self._known: dict[str, Bucket] = {}

    def forget(self) -> None:
        """Look all up again: the bus may be another one now."""
        self._known.clear()

    async def put(self, bucket: str, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Set a key. `guard` is called just before, and may raise."""

        async def write(found: Bucket) -> None:
            guard()
            await found.values.put(key, value)

        await self._with(bucket, write)

    async def get(self, bucket: str, key: str) -> bytes | None:
        """The value of a key, None if it has none."""
        found = await self._open(bucket)
        try:
            return (await found.values.get(key)).value
        except nats.js.errors.KeyNotFoundError:
            return None

    async def delete(self, bucket: str, key: str, guard: Callable[[], None]) -> None:
        """Delete a key, also one that is not there. `guard` is called just before, and may raise."""

        async def remove(found: Bucket) -> None:
            guard()
            await found.delete(key)

        await self._with(bucket, remove)

    async def _with(self, bucket: str, change: Callable[[Bucket], Awaitable[None]]) -> None:
        found = await self._open(bucket)
        try:
            await change(found)
        except BaseException:
            self._known.pop(bucket, None)  # it may have been deleted, or changed, since it was looked up
            raise

    async def _open(self, bucket: str) -> Bucket:
        found = self._known.get(bucket)
        if found is None:
            config = (await self._jetstream().stream_info(f"KV_{bucket}")).config
            found = Bucket(await self._jetstream().key_value(bucket), bool(config.allow_msg_ttl))
            self._known[bucket] = found
        return found
