"""The bus: one connection to NATS JetStream, and the few things that services do with it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client, Server
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

from schemas import subjects
from services.common import log
from services.common.credentials import Credentials
from services.common.errors import BusError
from services.common.provision import MAX_AGE, MAX_BYTES, provision
from services.common.pull import Start, consume

OLDEST_SERVER = (2, 10)
RECONNECT_WAIT = 0.5
SYNC_TIMEOUT = 1.0
"""Seconds without news after which a watch asks whether what it waits for was deleted in the meantime."""
REQUEST_TIMEOUT = 5.0


class Change(msgspec.Struct, frozen=True):
    """A key-value bucket's news: `value` is None when the key was deleted."""

    key: str
    value: bytes | None


class Synced(msgspec.Struct, frozen=True):
    """A watch has delivered everything that was there when it began."""


class Bus:
    """A connection that reconnects for ever. Create it with `Bus.connect`."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.client = Client()
        self.epoch = 0
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._refused = asyncio.Event()
        self._last_error: Exception | None = None
        self._log = log.get(service)

    @classmethod
    async def connect(cls, service: str, credentials: Credentials, timeout: float = 10.0) -> Bus:
        """A bus that is connected. Raises BusError: unreachable within `timeout` seconds, refused, too old."""
        bus = cls(service)
        await bus._connect(credentials, timeout)
        return bus

    @property
    def jetstream(self) -> JetStreamContext:
        return self._jetstream

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def until_connected(self) -> None:
        """Return at once when connected, else as soon as the bus is back."""
        await self._connected.wait()

    async def until_lost(self) -> None:
        """Return when the connection that is open now is lost."""
        await self._lost.wait()

    async def close(self) -> None:
        """Close the connection; what was published before is flushed first if the bus answers."""
        if self.client.is_closed:
            return
        try:
            async with asyncio.timeout(2):
                await self.client.flush(1)
        except (TimeoutError, nats.errors.Error):
            pass
        with contextlib.suppress(OSError):  # what still waits for a bus that is away cannot be sent
            await self.client.close()

    async def ensure(self, replicas: int = 1, max_age: float = MAX_AGE, max_bytes: int = MAX_BYTES) -> None:
        """Create the stream, the buckets and the object stores that are missing. Needs an account that may."""
        try:
            await provision(self.jetstream, replicas, max_age, max_bytes)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"cannot create the stream {subjects.STREAM} and its buckets: {error}") from error

    async def put(self, bucket: str, key: str, value: msgspec.Struct) -> None:
        """Set a key. Raises BusError when the bus does not take it."""
        kv = await self._bucket(bucket)
        await self._call(f"cannot write {key} in {bucket}", kv.put(key, msgspec.json.encode(value)))

    async def get(self, bucket: str, key: str) -> bytes | None:
        """The value of a key, None if it has none."""
        kv = await self._bucket(bucket)
        try:
            entry = await self._call(f"cannot read {key} in {bucket}", kv.get(key))
        except _MissingError:
            return None
        value: bytes | None = entry.value
        return value

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key, also one that is not there."""
        kv = await self._bucket(bucket)
        await self._call(f"cannot delete {key} in {bucket}", kv.delete(key))

    async def watch(self, bucket: str, keys: str) -> AsyncGenerator[Change | Synced, None]:
        """Every matching key as it is now, then Synced, then each change, for ever.

        After a lost connection everything is delivered again, with deletions for the keys that are gone, and
        another Synced: readers apply what they get and stay right.
        """
        known: set[str] = set()
        while True:
            await self.until_connected()
            try:
                async with contextlib.aclosing(self._watch_while_connected(bucket, keys, known)) as changes:
                    async for change in changes:
                        yield change
            except (nats.errors.Error, TimeoutError) as error:
                self._log.warning("watch failed, trying again", bucket=bucket, reason=repr(error))
                await asyncio.sleep(RECONNECT_WAIT)

    async def request(
        self,
        subject: str,
        command: msgspec.Struct,
        timeout: float = REQUEST_TIMEOUT,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """The reply to a command. Raises BusError when nobody listens or answers in time."""
        try:
            message = await self.client.request(subject, msgspec.json.encode(command), timeout=timeout, headers=headers)
        except nats.errors.NoRespondersError:
            raise BusError(f"nobody answers on {subject}: is its deployer running?") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"no answer on {subject} within {timeout:g} s: {error}") from None
        return message.data

    async def respond(self, subject: str, answer: Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]) -> None:
        """Answer every request on a subject with what `answer` makes of it and of its headers."""

        async def reply(message: Msg) -> None:
            await message.respond(await answer(message.data, message.headers or {}))

        await self.client.subscribe(subject, cb=reply)

    async def _connect(self, credentials: Credentials, timeout: float) -> None:
        options: dict[str, Any] = {
            "servers": credentials.servers,
            "name": f"longshore-{self.service}",
            "max_reconnect_attempts": -1,
            "reconnect_to_server_handler": _reconnect_with_jitter,
            "connect_timeout": 2,
            "reconnect_time_wait": 0.1,
            "inbox_prefix": f"_INBOX_{self.service}",
            "pending_size": 32 << 20,
            "disconnected_cb": self._on_lost,
            "reconnected_cb": self._on_reconnected,
            "error_cb": self._on_error,
            "allow_reconnect": True,
        }
        if credentials.user:
            options |= {"user": credentials.user, "password": credentials.password}
        await self._first_connection(options, ", ".join(credentials.servers), timeout)
        version = self.client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            await self.client.close()
            raise BusError(
                f"the NATS server at {credentials.servers[0]} is {version.major}.{version.minor}: "
                "use nats-server 2.10 or newer"
            )
        self._jetstream = self.client.jetstream(timeout=REQUEST_TIMEOUT, publish_async_max_pending=4096)
        self._connected.set()

    async def _first_connection(self, options: dict[str, Any], servers: str, timeout: float) -> None:
        connecting = asyncio.ensure_future(self.client.connect(**options))
        refused = asyncio.ensure_future(self._refused.wait())
        await asyncio.wait({connecting, refused}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        refused.cancel()
        if connecting.done() and not connecting.exception():
            return
        connecting.cancel()
        problem = await _outcome(connecting) or self._last_error
        if self._refused.is_set() or _is_refusal(problem):
            raise BusError(f"the bus at {servers} refuses {self.service}: wrong user or password")
        if isinstance(problem, ValueError):
            raise BusError(f"--nats-url {servers}: {problem}; use nats://host:4222")
        raise BusError(f"no bus at {servers} within {timeout:g} s ({problem}): start it, or mend --nats-url")

    async def _on_lost(self) -> None:
        if self._connected.is_set() and not self.client.is_closed:
            self._log.warning("bus lost, reconnecting")
        self._connected.clear()
        self._lost.set()

    async def _on_reconnected(self) -> None:
        self._lost = asyncio.Event()
        self.epoch += 1
        self._connected.set()
        self._log.info("bus is back")

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        if _is_refusal(error):
            self._refused.set()
        if self._connected.is_set():
            self._log.warning("bus error", reason=str(error) or type(error).__name__)

    async def _bucket(self, bucket: str) -> KeyValue:
        kv: KeyValue = await self._call(f"no bucket {bucket} on the bus", self.jetstream.key_value(bucket))
        return kv

    async def _call(self, what: str, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT + 1):
                return await call
        except nats.js.errors.KeyNotFoundError:
            raise _MissingError from None
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{what}: {error or type(error).__name__}") from error

    async def _watch_while_connected(
        self, bucket: str, keys: str, known: set[str]
    ) -> AsyncGenerator[Change | Synced, None]:
        prefix = f"$KV.{bucket}."
        seen: set[str] = set()
        received, is_synced = 0, False
        async with consume(self, f"KV_{bucket}", Start(prefix + keys)) as consumer:
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


class _MissingError(Exception):
    """The key has no value."""


def _reconnect_with_jitter(servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
    return random.choice(servers), RECONNECT_WAIT * random.uniform(0.5, 1.5)


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, nats.errors.AuthorizationError) or "authorization" in str(error).lower()


async def _outcome(task: asyncio.Future[None]) -> BaseException | None:
    """What a task that was cancelled or has failed died of; None for the cancellation itself."""
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return None if isinstance(result, asyncio.CancelledError) else result
