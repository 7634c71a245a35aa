"""The key-value buckets as the deployer reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import msgspec

from schemas import codec
from services.common import log
from services.common.bus.connection import Bus
from services.common.jetstream.watch import Synced, watch_keys
from services.common.process.lifecycle import Context

T = TypeVar("T")


async def read(bus: Bus, bucket: str, keys: str, kind: type[T]) -> dict[str, T]:
    """Return all values that the bucket holds now."""
    found: dict[str, T] = {}
    async with contextlib.aclosing(_values(bus, bucket, keys, kind)) as values:
        async for change in values:
            if change is None:
                break
            key, value = change
            if value is not None:
                found[key] = value
    return found


async def follow(
    bus: Bus, bucket: str, keys: str, kind: type[T], values: dict[str, T], changed: Callable[[], None]
) -> None:
    """Keep `values` equal to the bucket until cancelled."""
    async for change in _values(bus, bucket, keys, kind):
        if change is not None:
            key, value = change
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        changed()


async def followed(
    context: Context, wake: Callable[[], None], bucket: str, keys: str, kind: type[T], values: dict[str, T]
) -> None:
    """Keep `values` equal to some keys of a bucket from now on. Return once they hold all values of the start."""
    synced = asyncio.Event()

    def changed() -> None:
        synced.set()
        wake()

    context.spawn(follow(context.bus, bucket, keys, kind, values, changed), f"follow {bucket}")
    stopping = asyncio.ensure_future(context.stopping.wait())
    first = asyncio.ensure_future(synced.wait())
    await asyncio.wait({first, stopping}, return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    stopping.cancel()


async def _values(bus: Bus, bucket: str, keys: str, kind: type[T]) -> AsyncGenerator[tuple[str, T | None] | None, None]:
    """Yield each key with its value (None: deleted), and None once all values of the start were yielded."""
    async with contextlib.aclosing(watch_keys(bus, bucket, keys)) as changes:
        async for change in changes:
            if isinstance(change, Synced):
                yield None
                continue
            try:
                yield change.key, None if change.value is None else codec.value(change.value, kind)
            except msgspec.MsgspecError as error:
                log.get("deployer").warning("value ignored", bucket=bucket, key=change.key, reason=str(error))
