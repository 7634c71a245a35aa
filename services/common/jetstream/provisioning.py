"""What the bus must hold before anyone works with it: the stream of the log, the buckets, the object stores."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import RetentionPolicy, StorageType, StoreCompression, StreamConfig

from schemas import subjects
from services.common import log
from services.common.bus.connection import REQUEST_TIMEOUT, Bus
from services.common.bus.retry import retry_until_answered
from services.common.config import units
from services.common.config.settings import Settings
from services.common.errors import BusError, DeniedError, SettingsError

MAX_AGE = 7 * 24 * 3600.0
MAX_BYTES = 8 << 30
DUPLICATE_WINDOW = 120.0
SMALLEST = 1 << 20
"""Bytes: a log must have room for the largest batch."""

WITH_LIFETIMES = (2, 11)
"""The oldest nats-server whose messages may have lifetimes of their own."""

_NOT_CLUSTERED, _NO_PEERS = 10074, 10005
_NO_STORAGE = (10023, 10047)
_NO_JETSTREAM = (10039, 10076)

Create = Callable[[], Awaitable[Any]]


class Limits(msgspec.Struct, frozen=True):
    """How many servers keep everything, and how much the log keeps. None: as it is, or the usual for a new one.

    `max_age` in seconds, 0: for ever; `max_bytes`, 0: without a limit. `usual_bytes`: what is usual for a new log.
    """

    replicas: int = 1
    max_age: float | None = None
    max_bytes: int | None = None
    usual_bytes: int = MAX_BYTES

    @property
    def stored_bytes(self) -> int | None:
        """As the server wants it."""
        return -1 if self.max_bytes == 0 else self.max_bytes


def limits(settings: Settings) -> Limits:
    """What the options say. Raises SettingsError."""
    if settings.nats_replicas not in (1, 2, 3, 4, 5):
        raise SettingsError(f"--nats-replicas {settings.nats_replicas}: use 1 to 5")
    if settings.nats_replicas > 1 and not settings.nats_url:
        raise SettingsError(
            f"--nats-replicas {settings.nats_replicas} needs --nats-url: the embedded bus is one server"
        )
    max_age = units.duration("--max-age", settings.max_age) if settings.max_age else None
    max_bytes = units.size("--max-bytes", settings.max_bytes) if settings.max_bytes else None
    if max_age and max_age < 1:
        raise SettingsError(f"--max-age {settings.max_age}: use a second at least, or 0 for no limit")
    if max_bytes and max_bytes < SMALLEST:
        raise SettingsError(f"--max-bytes {settings.max_bytes}: use 1MiB at least, or 0 for no limit")
    return Limits(settings.nats_replicas, max_age, max_bytes)


async def ensure_streams(bus: Bus, wanted: Limits | None = None) -> None:
    """Create the stream, the buckets and the object stores that are missing, and apply the limits that are `wanted`.

    Raises BusError: this account may not, or the servers cannot.
    """
    wanted = wanted or Limits()
    try:
        async with asyncio.timeout(bus.retry_for + REQUEST_TIMEOUT):
            await retry_until_answered(lambda: provision(bus, wanted), bus.retry_for)
    except nats.js.errors.APIError as error:
        reason = problem(error, wanted) or str(error)
        raise BusError(f"cannot create the stream {subjects.STREAM} and its buckets: {reason}") from error
    except (nats.errors.Error, TimeoutError) as error:
        reason = str(error) or "no answer; have the servers of the cluster a quorum?"
        raise BusError(f"cannot create the stream {subjects.STREAM} and its buckets: {reason}") from error


async def provision(bus: Bus, wanted: Limits) -> None:
    """Create what is missing, change what `wanted` says otherwise; the rest stays as it is.

    What this account may not see is left to the others. Raises BusError and the client's errors.
    """
    for stream, create in _streams(bus, wanted).items():
        try:
            found = await bus.unless_denied(stream, bus.jetstream.stream_info(stream))
        except DeniedError:
            continue
        except nats.js.errors.NotFoundError:
            await _create(bus, stream, create)
        else:
            await _update(bus, found.config, wanted)


def problem(error: nats.js.errors.APIError, wanted: Limits) -> str:
    """What an answer of the server means for the options; empty: nothing special."""
    if error.err_code == _NOT_CLUSTERED:
        return f"--nats-replicas {wanted.replicas}: the server is not one of a cluster; leave the option out"
    if error.err_code == _NO_PEERS:
        return (
            f"--nats-replicas {wanted.replicas}: fewer servers of the cluster are there; start more, or ask for fewer"
        )
    if error.err_code in _NO_STORAGE:
        return "the server has not room enough: give it a larger max_file_store, or the log a smaller --max-bytes"
    if error.err_code in _NO_JETSTREAM:
        return "the server has no JetStream for this account: add `jetstream: enabled`, see `longshore bus config`"
    return ""


def _streams(bus: Bus, wanted: Limits) -> dict[str, Create]:
    """Every stream, also those below buckets and stores, and how it is created."""
    context, replicas = bus.jetstream, wanted.replicas
    found: dict[str, Create] = {subjects.STREAM: partial(context.add_stream, _log(wanted))}
    for bucket in subjects.BUCKETS:
        found[f"KV_{bucket}"] = partial(context.create_key_value, bucket=bucket, history=1, replicas=replicas)
    for store in subjects.OBJECT_STORES:
        found[f"OBJ_{store}"] = partial(context.create_object_store, store, storage=StorageType.FILE, replicas=replicas)
    return found


def _log(wanted: Limits) -> StreamConfig:
    max_age = MAX_AGE if wanted.max_age is None else wanted.max_age
    return StreamConfig(
        name=subjects.STREAM,
        description="What happened, in order",
        subjects=[subjects.ALL_EVENTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        compression=StoreCompression.S2,
        max_age=max_age,
        max_bytes=wanted.usual_bytes if wanted.stored_bytes is None else wanted.stored_bytes,
        duplicate_window=_duplicate_window(max_age),
        num_replicas=wanted.replicas,
        allow_direct=True,
    )


async def _create(bus: Bus, stream: str, create: Create) -> None:
    try:
        await bus.unless_denied(stream, create())
    except DeniedError:
        raise BusError(
            f"the stream {stream} is missing and the account of {bus.service} may not create it: run "
            "`longshore bus setup` with one that may"
        ) from None


async def _update(bus: Bus, config: StreamConfig, wanted: Limits) -> None:
    changes = changed(config, wanted)
    if not changes:
        await _allow_lifetimes(bus, config)
        return
    stream = config.name or ""
    try:
        await bus.unless_denied(stream, bus.jetstream.update_stream(config.evolve(**changes)))
    except DeniedError:
        raise BusError(
            f"the account of {bus.service} may not change the limits of {stream}: run `longshore bus setup` with one "
            "that may"
        ) from None
    log.get(bus.service).info("changed on the bus", stream=stream, **changes)


async def _allow_lifetimes(bus: Bus, config: StreamConfig) -> None:
    """Let markers of deleted keys go by themselves, in a bucket that an older server made and if this account may."""
    version = bus.client.connected_server_version
    is_bucket = (config.name or "").startswith("KV_")
    if is_bucket and not config.allow_msg_ttl and (version.major, version.minor) >= WITH_LIFETIMES:
        with contextlib.suppress(DeniedError):
            await bus.unless_denied(config.name or "", bus.jetstream.update_stream(config.evolve(allow_msg_ttl=True)))


def changed(config: StreamConfig, wanted: Limits) -> dict[str, Any]:
    """What is to be changed of a stream: limits of the log that were asked for, and replicas if more were."""
    changes: dict[str, Any] = {}
    if wanted.replicas > (config.num_replicas or 1):
        changes["num_replicas"] = wanted.replicas
    if config.name != subjects.STREAM:
        return changes
    if wanted.max_age is not None and wanted.max_age != (config.max_age or 0):
        changes |= {"max_age": wanted.max_age, "duplicate_window": _duplicate_window(wanted.max_age)}
    if wanted.stored_bytes is not None and wanted.stored_bytes != config.max_bytes:
        changes["max_bytes"] = wanted.stored_bytes
    return changes


def _duplicate_window(max_age: float) -> float:
    return min(DUPLICATE_WINDOW, max_age or DUPLICATE_WINDOW)
