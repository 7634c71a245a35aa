"""The client of a running Longshore: its bus, its buckets, its log and its deployers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from schemas import codec, subjects
from schemas.commands import Command, Reply
from schemas.events import AnyEvent
from schemas.output import Opened, OutputRequest
from schemas.routing import Decisions
from services.common import log, tracing
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.config.option import App
from services.common.config.settings import Settings, check_name
from services.common.errors import BusError, DeniedError, LongshoreError, NoBusError
from services.common.jetstream import log_reader
from services.common.jetstream.watch import Synced, watch_keys
from services.common.streaming.reader import Reader

VALUES_TIMEOUT = 10.0

T = TypeVar("T")


class Target(Settings, frozen=True, kw_only=True):
    """The application and the host that a command is for. An empty app: the only one on the host."""

    app: App = ""

    def __post_init__(self) -> None:
        if self.app:
            check_name("--app", self.app)


class LoggedEvent(msgspec.Struct, frozen=True):
    """One event of the log with its envelope. `sequence` is the stream's."""

    sequence: int
    service: str
    host: str
    app: str
    event: AnyEvent


class Client:
    """A connection as the `cli` account."""

    def __init__(self, bus: Bus, target: Target) -> None:
        self._bus = bus
        self.target = target

    @property
    def bus(self) -> Bus:
        return self._bus

    async def values(self, bucket: str, kind: type[T]) -> dict[str, T]:
        """Return all values of a bucket for the target's host and, if one is named, its app.

        Raises BusError, DeniedError at once when this account may not read the bucket.
        """
        try:
            async with asyncio.timeout(VALUES_TIMEOUT):
                return await self._bus.unless_denied(f"KV_{bucket}", self._read(bucket, kind))
        except TimeoutError:
            raise BusError(
                f"no answer about the bucket {bucket} within {VALUES_TIMEOUT:g} s: is Longshore set up on this bus "
                "(`longshore bus setup`), and has its cluster a quorum?"
            ) from None

    async def _read(self, bucket: str, kind: type[T]) -> dict[str, T]:
        keys = f"{subjects.token(self.target.host)}.{self.target.app or '*'}"
        watch = watch_keys(self._bus, bucket, keys if bucket == subjects.DECISIONS else f"{keys}.>")
        found: dict[str, T] = {}
        async with contextlib.aclosing(watch):
            async for change in watch:
                if isinstance(change, Synced):
                    break
                if change.value is not None:
                    _add(found, bucket, change.key, change.value, kind)
        return found

    async def app(self) -> str:
        """Return the target's application, or the only one on its host. Raises LongshoreError when there is not one."""
        if self.target.app:
            with contextlib.suppress(DeniedError):  # an account that may only send commands: the deployer decides
                if not await self.values(subjects.DECISIONS, Decisions):
                    raise LongshoreError(await self._unknown_app())
            return self.target.app
        decisions = await self.values(subjects.DECISIONS, Decisions)
        apps = _names(decisions, is_removed=False)
        if not apps:
            removed = ", ".join(_names(decisions, is_removed=True))
            also = f" (removed: {removed}; name it with --app to start it again)" if removed else ""
            raise LongshoreError(f"no application runs on {self.target.host}: start one, or name another --host{also}")
        if len(apps) > 1:
            raise LongshoreError(f"several applications run here: choose one with --app ({', '.join(apps)})")
        return apps[0]

    async def _unknown_app(self) -> str:
        known = await Client(self._bus, msgspec.structs.replace(self.target, app="")).values(
            subjects.DECISIONS, Decisions
        )
        apps = _names(known, is_removed=False)
        there = f"there are: {', '.join(apps)}" if apps else "none runs there"
        return f"--app {self.target.app}: no such application on {self.target.host}; {there}"

    async def send(self, command: Command) -> Reply:
        """Send a command to the deployer and return its answer. Raises LongshoreError when it refuses."""
        subject = subjects.commands(await self.app(), self.target.host)
        reply: Reply = codec.value(await self._bus.request(subject, command, headers=tracing.begin()), Reply)
        if not reply.ok:
            raise LongshoreError(reply.message)
        return reply

    async def read_output(self, request: OutputRequest) -> Reader:
        """Open a stream of output of the deployer, and return its reader. Raises LongshoreError when it refuses."""
        app, host = await self.app(), self.target.host
        answer = await self._bus.request(subjects.output("deployer", app, host), request)
        opened: Opened = codec.value(answer, Opened)
        if not opened.ok:
            raise LongshoreError(opened.message)
        subject = subjects.output_stream("deployer", app, host, opened.stream)
        return Reader(self._bus, subject, f"the deployer of {app} on {host}")

    async def last_sequence(self) -> int:
        return await log_reader.last_sequence(self._bus)

    async def events(
        self, start: int, service: str = "*", app: str = "*", until: int | None = None
    ) -> AsyncIterator[LoggedEvent]:
        """Yield events from a stream sequence on, to `until` (inclusive) or indefinitely."""
        if until is not None and start > until:
            return
        async for messages in log_reader.read(self._bus, start, subjects.events(service, app), wait=until is None):
            for message in messages:
                if until is not None and message.sequence > until:
                    return
                for recorded in _logged_events(message):
                    yield recorded


def _names(decisions: dict[str, Decisions], is_removed: bool) -> list[str]:
    return sorted(key.split(".")[1] for key, decided in decisions.items() if decided.removed == is_removed)


def _add(found: dict[str, T], bucket: str, key: str, value: bytes, kind: type[T]) -> None:
    try:
        found[key] = codec.value(value, kind)
    except msgspec.MsgspecError as error:
        log.get("cli").warning("value ignored", bucket=bucket, key=key, reason=str(error))


def _logged_events(message: log_reader.LogMessage) -> list[LoggedEvent]:
    """Return the events of a message; none if it is no batch (the gateway counts those)."""
    try:
        batch = codec.decode(message.payload, message.subject).batch
    except msgspec.MsgspecError:
        return []
    return [LoggedEvent(message.sequence, batch.service, batch.host, batch.app, event) for event in batch.events]


@asynccontextmanager
async def connect(target: Target, account: str = "cli") -> AsyncIterator[Client]:
    """Connect to the bus of the target. Raises BusError when it cannot be reached."""
    found = credentials.find(target, account)
    try:
        bus = await Bus.connect(account, found, min(target.bus_timeout, 3.0))
    except NoBusError:
        if target.nats_url:
            raise
        raise BusError(
            f"nothing runs with --state-dir {target.state_dir}: start Longshore; to read its log only, start its bus, "
            f"`longshore bus --state-dir {target.state_dir}`"
        ) from None
    try:
        yield Client(bus, target)
    finally:
        await bus.close()
