"""Removal of an application from its host: its routes and replicas leave the bus, and the log records the removal.

Its deployer does that itself (own_removal.py) when it is asked to, once its replicas have drained. For an application
without a deployer, `remove` does it, and replicas that still run keep running. The decisions are kept, in case the
application comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from schemas import codec, subjects
from schemas.events import ApplicationRemoved, ServiceStopped
from schemas.routing import Decisions
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.delivery.outbox import Outbox
from services.common.errors import BusError
from services.common.ids import uuid7
from services.common.jetstream.watch import Change, watch_keys
from services.deployer.reconcile.leadership import Leadership
from services.deployer.settings import DeployerSettings

LEASE_TIMEOUT = 10.0
"""Seconds to get the lease after the deployer has ended: three times the term of an unreleased lease."""

FLUSH_TIMEOUT = 5.0
LOOK_INTERVAL = 0.2
ROUNDS_PER_REQUEST = 10
"""A deployer that was killed has forgotten the request, and its successor is asked within two seconds."""


async def remove(settings: DeployerSettings, by: str) -> None:
    """Remove an application whose deployer has ended. Raises BusError if the bus is away, or a deployer still leads."""
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    leadership = Leadership(bus, settings)
    try:
        if (await _decisions(bus, subjects.decisions_key(settings.host, settings.app))).removed:
            return  # by its deployer
        await _take(leadership)
        bus.guard = leadership.check
        for bucket in (subjects.ROUTES, subjects.REPLICAS):
            for key in await _keys(bus, bucket, f"{subjects.token(settings.host)}.{settings.app}.>"):
                await bus.delete(bucket, key)
        await _record(bus, settings, by)
        await _mark_removed(bus, settings)
    finally:
        await leadership.release()
        await bus.close()


async def until_removed(settings: DeployerSettings, ask: Callable[[], None]) -> None:
    """Return when the deployer has removed the application. `ask` asks it to; it may just be starting."""
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    try:
        key, rounds = subjects.decisions_key(settings.host, settings.app), 0
        while True:
            with contextlib.suppress(BusError):  # it comes back, and the caller limits the wait
                if (await _decisions(bus, key)).removed:
                    break
            if rounds % ROUNDS_PER_REQUEST == 0:
                ask()
            rounds += 1
            await asyncio.sleep(LOOK_INTERVAL)
    finally:
        await bus.close()


async def left(settings: DeployerSettings) -> list[str]:
    """Return the applications of the host that have decisions and were not removed. Raises BusError."""
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    try:
        keys = await _keys(bus, subjects.DECISIONS, f"{subjects.token(settings.host)}.*")
        return [key.partition(".")[2] for key in keys if not (await _decisions(bus, key)).removed]
    finally:
        await bus.close()


async def _take(leadership: Leadership) -> None:
    try:
        async with asyncio.timeout(LEASE_TIMEOUT):
            await leadership.take()
    except TimeoutError:
        raise BusError(f"{leadership.name} is not removed: a deployer still has it") from None


async def _keys(bus: Bus, bucket: str, keys: str) -> list[str]:
    """Return the keys that have a value."""
    found = []
    async with contextlib.aclosing(watch_keys(bus, bucket, keys)) as changes:
        async for change in changes:
            if not isinstance(change, Change):
                break
            if change.value is not None:
                found.append(change.key)
    return found


async def _record(bus: Bus, settings: DeployerSettings, by: str) -> None:
    outbox = Outbox(bus, "deployer", settings.host, uuid7())
    running = asyncio.create_task(outbox.run())
    try:
        outbox.record(ApplicationRemoved(time.time(), by), settings.app)
        outbox.record(ServiceStopped(time.time(), "stopped"))
        if not await outbox.flush(FLUSH_TIMEOUT):
            raise BusError(f"the log does not take the removal of {settings.app}")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _mark_removed(bus: Bus, settings: DeployerSettings) -> None:
    key = subjects.decisions_key(settings.host, settings.app)
    await bus.put(subjects.DECISIONS, key, replace(await _decisions(bus, key), removed=True))


async def _decisions(bus: Bus, key: str) -> Decisions:
    value = await bus.get(subjects.DECISIONS, key)
    with contextlib.suppress(msgspec.MsgspecError):
        return codec.value(value, Decisions) if value else Decisions()
    return Decisions()
