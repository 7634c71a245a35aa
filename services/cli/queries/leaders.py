"""Whether an application has a deployer: by the lease that one holds, because a killed deployer records nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import msgspec
import nats.errors
import nats.js.errors

from schemas import codec, subjects
from schemas.routing import Lease
from services.common.bus.connection import Bus
from services.common.errors import BusError, DeniedError
from services.common.jetstream.lease import POLL_INTERVAL, RELEASED, TERM, UNKNOWN

Application = tuple[str, str]
"""A host and the name of an application on it."""


class Seen(msgspec.Struct, frozen=True):
    """A lease: its revision, 0 if it does not exist; when it was stored, in unix seconds of the server; its holder."""

    revision: int = 0
    stored: float = 0.0
    holder: str = RELEASED


async def without_leader(bus: Bus, applications: Iterable[Application]) -> set[Application]:
    """Return the applications whose lease no deployer holds; none where this account may not read leases.

    A lease that seems too old by this host's clock is watched for its whole term: the server's clock may differ.
    """
    try:
        found = {one: await _read(bus, one) for one in applications}
    except DeniedError:
        return set()
    free = {one for one, seen in found.items() if seen.holder == RELEASED}
    old = {one: seen for one, seen in found.items() if one not in free and not 0 <= time.time() - seen.stored < TERM}
    until = time.monotonic() + TERM
    while old and time.monotonic() < until:
        await asyncio.sleep(POLL_INTERVAL)
        old = {one: seen for one, seen in old.items() if (await _read(bus, one)).revision == seen.revision}
    return free | old.keys()


async def _read(bus: Bus, application: Application) -> Seen:
    host, app = application
    stream = f"KV_{subjects.LEASES}"
    key = f"$KV.{subjects.LEASES}.{subjects.deployer_lease_key(host, app)}"
    try:
        message = await bus.unless_denied(stream, bus.jetstream.get_msg(stream, subject=key))
    except nats.js.errors.NotFoundError:
        return Seen()
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(f"no answer about the leases: {error or type(error).__name__}") from error
    try:
        holder = codec.value(message.data or b"", Lease).holder
    except msgspec.MsgspecError:
        holder = UNKNOWN if message.data else RELEASED  # the marker of a deleted key is empty
    return Seen(message.seq or 0, message.time.timestamp() if message.time else 0.0, holder)
