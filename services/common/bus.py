"""The bus: one connection to NATS JetStream, and the few things that services do with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from schemas import subjects
from services.common import log, provision
from services.common.answers import Answer, Answers
from services.common.client import RECONNECT_WAIT, ReconnectingClient, attempt
from services.common.credentials import Credentials
from services.common.denial import Denials
from services.common.errors import BusError
from services.common.patience import answered
from services.common.provision import Limits
from services.common.pull import Start, consume
from services.common.refusal import explain, forbidden

OLDEST_SERVER = (2, 10)
SYNC_TIMEOUT = 1.0
"""Seconds without news after which a watch asks whether what it waits for was deleted in the meantime."""
REQUEST_TIMEOUT = 5.0
ANSWER_TIMEOUT = 15.0
"""Seconds for the answer to a command: longer than whoever answers asks others for it."""

T = TypeVar("T")


class Change(msgspec.Struct, frozen=True):
    """A key-value bucket's news: `value` is None when the key was deleted."""

    key: str
    value: bytes | None


class Synced(msgspec.Struct, frozen=True):
    """A watch has delivered everything that was there when it began."""


class Bus:
    """A connection that reconnects for ever. Create it with `Bus.connect`."""

    def __init__(self, service: str, credentials: Credentials = Credentials([])) -> None:  # noqa: B008 - frozen
        self.service = service
        self.client = ReconnectingClient(credentials)
        self.epoch = 0
        self._credentials = credentials
        self._patience = 0.0
        self._limits = Limits()
        self._denials = Denials(service)
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._refused = asyncio.Event()
        self._refusals = 0
        self._reason = ""
        self._last_error: Exception | None = None
        self.guard: Callable[[], None] = lambda: None
        """Called before each `put` and `delete`; raises BusError when nothing may be written now."""
        self._later: asyncio.Task[None] | None = None
        self._answers = Answers(service)
        self._log = log.get(service)

    @classmethod
    async def connect(
        cls, service: str, credentials: Credentials, timeout: float = 10.0, is_needed: bool = True
    ) -> Bus:
        """A bus that is connected. Raises BusError: unreachable within `timeout` seconds, refused, too old.

        One that is not needed at once goes on trying when it is not reached in time, and does not raise for that.
        """
        bus = cls(service, credentials)
        await bus._connect(timeout, is_needed)
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
        await self._answers.close()
        if self.client.is_closed:
            return
        if self._later and not self._later.done():
            await self._give_up(self._later)
            return
        try:
            async with asyncio.timeout(2):
                await self.client.flush(1)
        except (TimeoutError, nats.errors.Error):
            pass
        with contextlib.suppress(OSError):  # what still waits for a bus that is away cannot be sent
            await self.client.close()

    async def ensure(self, wanted: Limits | None = None) -> None:
        """Create the stream, the buckets and the object stores that are missing, as this was asked for last.

        Raises BusError: this account may not, or the servers cannot.
        """
        self._limits = wanted or self._limits
        try:
            async with asyncio.timeout(self._patience + REQUEST_TIMEOUT):
                await answered(lambda: provision.provision(self, self._limits), self._patience)
        except nats.js.errors.APIError as error:
            reason = provision.problem(error, self._limits) or str(error)
            raise BusError(f"cannot create the stream {subjects.STREAM} and its buckets: {reason}") from error
        except (nats.errors.Error, TimeoutError) as error:
            reason = str(error) or "no answer; have the servers of the cluster a quorum?"
            raise BusError(f"cannot create the stream {subjects.STREAM} and its buckets: {reason}") from error

    async def put(self, bucket: str, key: str, value: msgspec.Struct) -> None:
        """Set a key. Raises BusError when the bus does not take it."""

        async def write() -> None:
            self.guard()
            kv = await self.jetstream.key_value(bucket)
            await kv.put(key, msgspec.json.encode(value))

        await self._call(f"cannot write {key} in {bucket}", bucket, write)

    async def get(self, bucket: str, key: str) -> bytes | None:
        """The value of a key, None if it has none. Raises BusError."""

        async def read() -> bytes | None:
            kv = await self.jetstream.key_value(bucket)
            try:
                return (await kv.get(key)).value
            except nats.js.errors.KeyNotFoundError:
                return None

        return await self._call(f"cannot read {key} in {bucket}", bucket, read)

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key, also one that is not there. Raises BusError."""

        async def remove() -> None:
            self.guard()
            kv = await self.jetstream.key_value(bucket)
            await kv.delete(key)

        await self._call(f"cannot delete {key} in {bucket}", bucket, remove)

    async def unless_denied(self, name: str, call: Awaitable[T]) -> T:
        """What a call gives that uses subjects with `name`. Raises DeniedError at once when this account may not."""
        return await self._denials.unless_denied(name, call)

    async def watch(self, bucket: str, keys: str) -> AsyncGenerator[Change | Synced, None]:
        """Every matching key as it is now, then Synced, then each change, for ever.

        After a lost connection everything is delivered again, with deletions for the keys that are gone, and
        another Synced: readers apply what they get and stay right.
        """
        known: set[str] = set()
        told = ""
        while True:
            await self.until_connected()
            try:
                async with contextlib.aclosing(self._watch_while_connected(bucket, keys, known)) as changes:
                    async for change in changes:
                        told = ""
                        yield change
            except (nats.errors.Error, TimeoutError) as error:
                if repr(error) != told:
                    told = repr(error)
                    self._log.warning("watch failed, trying on", bucket=bucket, reason=told)
                await asyncio.sleep(RECONNECT_WAIT)

    async def request(
        self,
        subject: str,
        command: msgspec.Struct,
        timeout: float = ANSWER_TIMEOUT,
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

    async def respond(self, subject: str, answer: Answer) -> None:
        """Answer every request on a subject with what `answer` makes of it and of its headers, each on its own."""

        async def take(message: Msg) -> None:
            self._answers.begin(message, answer)

        await self.client.subscribe(subject, cb=take)

    async def _connect(self, timeout: float, is_needed: bool) -> None:
        self._patience = timeout
        options = self.client.options_for(self.service) | {
            "disconnected_cb": self._on_lost,
            "reconnected_cb": self._on_reconnected,
            "error_cb": self._on_error,
        }
        self._jetstream = self.client.jetstream(timeout=REQUEST_TIMEOUT, publish_async_max_pending=4096)
        connecting = asyncio.create_task(self.client.connect(**options))
        in_the_way = await attempt(connecting, self._refused, timeout)
        if isinstance(in_the_way, TimeoutError) and not is_needed:
            self._lost.set()
            self._log.warning("the bus is away, going on without it", reason=self._why_not(in_the_way, timeout))
            self._later = asyncio.create_task(self._connect_later(connecting))
            return
        if in_the_way:
            await self._give_up(connecting)
            raise BusError(self._why_not(in_the_way, timeout))
        version = self.client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            await self.client.close()
            raise BusError(
                f"the NATS server at {self._credentials.shown} is {version.major}.{version.minor}: "
                "use nats-server 2.10 or newer"
            )
        self._connected.set()

    async def _connect_later(self, connecting: asyncio.Task[None]) -> None:
        await connecting
        await self._on_reconnected()

    async def _give_up(self, connecting: asyncio.Task[None]) -> None:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await self.client.abort()

    def _why_not(self, error: BaseException, timeout: float) -> str:
        servers = self._credentials.shown
        reason = explain(error, self._credentials) or self._reason
        if reason:
            return f"the bus at {servers} refuses {self.service}: {reason}"
        if not isinstance(error, TimeoutError):
            return f"--nats-url {servers}: {error}; use nats://host:4222"
        last = self._last_error or "no answer"
        return f"no bus at {servers} within {timeout:g} s ({last}): start it, or mend --nats-url"

    async def _on_lost(self) -> None:
        if self._connected.is_set() and not self.client.is_closed:
            self._log.warning("bus lost, reconnecting")
        self._connected.clear()
        self._lost.set()

    async def _on_reconnected(self) -> None:
        self._lost = asyncio.Event()
        self._reason = ""
        self.epoch += 1
        self._connected.set()
        self._log.info("bus is back")

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        subject, reason = forbidden(error), explain(error, self._credentials)
        if subject:
            if not self._denials.tell(subject):
                self._log.warning("the account may not use this on the bus", subject=subject)
        elif reason and not self._connected.is_set():
            self._tell_refusal(reason)
        elif self._connected.is_set():
            self._log.warning("bus error", reason=str(error) or type(error).__name__)

    def _tell_refusal(self, reason: str) -> None:
        """The end of a start when all servers say so; later one line, and we go on trying."""
        self._refusals += 1
        if self._refusals >= len(self._credentials.servers):
            self._refused.set()
        if self._lost.is_set() and reason != self._reason:
            self._log.warning("the bus refuses us, trying on", reason=reason)
        self._reason = reason

    async def _call(self, what: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """What a call gives that may be made again."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT + 1):
                return await self.unless_denied(name, answered(call, REQUEST_TIMEOUT))
        except BusError as error:
            raise BusError(f"{what}: {error}") from None
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
