"""Watching keys of a bucket, through whatever happens to the bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec
import nats.errors
from nats.aio.msg import Msg

from services.common import log
from services.common.bus.connection import Bus
from services.common.bus.nats_client import RECONNECT_WAIT
from services.common.jetstream.consumer import StartAt, consume
from services.common.log import Outage

SYNC_TIMEOUT = 1.0
"""Seconds without news after which a watch asks whether what it waits for was deleted in the meantime."""


class Change(msgspec.Struct, frozen=True):
    """A key-value bucket's news: `value` is None when the key was deleted."""

    key: str
    value: bytes | None


class Synced(msgspec.Struct, frozen=True):
    """A watch has delivered everything that was there when it began."""


async def watch_keys(bus: Bus, bucket: str, keys: str) -> AsyncGenerator[Change | Synced, None]:
    """Yield every matching key as it is now, then Synced, then each change, indefinitely.

    After a lost connection, everything is delivered again, with deletions for the keys that are gone, and another
    Synced. A reader that applies what it gets stays right.
    """
    known: set[str] = set()
    outage = Outage(log.get(bus.service), "watch failed, retrying", bucket=bucket)
    while True:
        await bus.until_connected()
        try:
            async with contextlib.aclosing(_watch_while_connected(bus, bucket, keys, known)) as changes:
                async for change in changes:
                    outage.recovered()
                    yield change
        except (nats.errors.Error, TimeoutError) as error:
            outage.failed(repr(error))
            await asyncio.sleep(RECONNECT_WAIT)


async def _watch_while_connected(
    bus: Bus, bucket: str, keys: str, known: set[str]
) -> AsyncGenerator[Change | Synced, None]:
    prefix = f"$KV.{bucket}."
    seen: set[str] = set()
    received, is_synced = 0, False
    async with consume(bus, f"KV_{bucket}", StartAt([prefix + keys])) as consumer:
        while not consumer.is_lost:
            if not is_synced and (received >= consumer.pending or not await consumer.outstanding(received)):
                for key in known - seen:
                    yield Change(key, None)
                known &= seen
                is_synced = True
                yield Synced()
            for message in await consumer.fetch(None if is_synced else SYNC_TIMEOUT):
                received += 1
                change = _change(message, prefix)
                (known.discard if change.value is None else known.add)(change.key)
                seen.add(change.key)
                yield change


def _change(message: Msg, prefix: str) -> Change:
    """The news in a message of a bucket. One with one of these headers says that the key has no value any more."""
    headers = message.headers or {}
    is_gone = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
    return Change(message.subject.removeprefix(prefix), None if is_gone else message.data)
