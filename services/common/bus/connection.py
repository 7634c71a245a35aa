"""The bus: one connection to NATS JetStream, and the operations that services need."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.client import JetStreamContext

from services.common import log, tasks
from services.common.bus import requests
from services.common.bus.connect_errors import explain, forbidden
from services.common.bus.credentials import Credentials
from services.common.bus.key_value import Buckets
from services.common.bus.nats_client import ReconnectingClient, attempt
from services.common.bus.permission_errors import PermissionErrors
from services.common.bus.responder import Answer, Responder
from services.common.bus.retry import retry_until_answered
from services.common.errors import BusError, NoBusError

OLDEST_SERVER = (2, 10)
REQUEST_TIMEOUT = 5.0
ANSWER_TIMEOUT = 30.0
"""Seconds for the answer to a command. The deployer begins a change within the first half, which is longer than its own
requests take, and ends it within the second half (two writes and the wait for the events)."""

T = TypeVar("T")


class Bus:
    """A connection that reconnects indefinitely. Create it with `Bus.connect`."""

    def __init__(self, service: str, credentials: Credentials = Credentials([])) -> None:  # noqa: B008 - frozen
        self.service = service
        self.client = ReconnectingClient(credentials)
        self.epoch = 0
        self._credentials = credentials
        self.retry_for = 0.0
        """Seconds for which a call of JetStream is repeated while the servers have no leader."""
        self._permission_errors = PermissionErrors(service)
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._refused = asyncio.Event()
        self._refusals = 0
        self._reason = ""
        self._last_error: Exception | None = None
        self.guard: Callable[[], None] = lambda: None
        """A check before each `put` and `delete`: it raises BusError when nothing may be written now."""
        self._later: asyncio.Task[None] | None = None
        self._responder = Responder(service)
        self._buckets = Buckets(lambda: self.jetstream)
        self._log = log.get(service)

    @classmethod
    async def connect(
        cls, service: str, credentials: Credentials, timeout: float = 10.0, is_needed: bool = True
    ) -> Bus:
        """Connect to the bus. Raises BusError: unreachable within `timeout` seconds, refused, too old; or NoBusError.

        If the bus is not needed at once and not reached in time, the connection is retried in the background instead.
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
        """Close the connection; if the bus answers, pending messages are flushed first."""
        await self._responder.close()
        if self.client.is_closed:
            return
        if self._later and not self._later.done():
            await self._abandon(self._later)
            return
        try:
            async with asyncio.timeout(2):
                await self.client.flush(1)
        except (TimeoutError, nats.errors.Error):
            pass
        finally:  # also when this is cancelled: a client that is not closed connects again indefinitely
            with contextlib.suppress(OSError):  # pending messages cannot be sent while the bus is away
                await self.client.close()

    async def put(self, bucket: str, key: str, value: msgspec.Struct) -> None:
        """Set a key. Raises BusError when the bus does not take it; then it is not written later either."""
        content = msgspec.json.encode(value)
        await self._call(
            f"cannot write {key} in {bucket}", bucket, lambda: self._buckets.put(bucket, key, content, self.guard)
        )

    async def get(self, bucket: str, key: str) -> bytes | None:
        """Return the value of a key, None if it has none. Raises BusError."""
        return await self._call(f"cannot read {key} in {bucket}", bucket, lambda: self._buckets.get(bucket, key))

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key, which need not exist. Raises BusError."""
        await self._call(
            f"cannot delete {key} in {bucket}", bucket, lambda: self._buckets.delete(bucket, key, self.guard)
        )

    async def unless_denied(self, name: str, call: Awaitable[T]) -> T:
        """Await a call that uses subjects with `name`. Raises DeniedError at once when the account may not."""
        return await self._permission_errors.unless_denied(name, call)

    async def request(
        self,
        subject: str,
        command: msgspec.Struct,
        timeout: float = ANSWER_TIMEOUT,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Send a command and return the reply.

        Raises BusError: bus away, no responder, or no answer in time; DeniedError at once when this account may not
        send it. The responder begins no change after half of `timeout` (seconds).
        """
        payload = msgspec.json.encode(command)
        sending = requests.request(self.client, subject, payload, timeout, headers or {})
        return await self.unless_denied(subject, sending)

    async def respond(self, subject: str, answer: Answer, is_repeatable: bool = False) -> Subscription:
        """Answer every request on a subject with the result of `answer`, each in a task of its own.

        Messages that are no requests, and requests that come too late, do not reach `answer`. `is_repeatable`: it does
        no harm to answer a request late, or twice; such requests carry no deadline.
        """

        async def take(message: Msg) -> None:
            self._responder.handle(message, subject, answer, is_repeatable)

        return await self.client.subscribe(subject, cb=take)

    async def stop_responding(self, subscription: Subscription) -> None:
        """End a subscription of `respond`."""
        with contextlib.suppress(nats.errors.Error):  # the connection is closed, and the subscription with it
            await subscription.unsubscribe()

    async def ask(self, subject: str, payload: bytes, timeout: float) -> bytes:
        """Send a request that may be repeated, and return the reply.

        Raises BusError: bus away, no responder, or no answer in time; DeniedError when this account may not send it.
        """
        return await self.unless_denied(subject, requests.ask(self.client, subject, payload, timeout))

    async def _connect(self, timeout: float, is_needed: bool) -> None:
        self.retry_for = timeout
        options = self.client.options_for(self.service) | {
            "disconnected_cb": self._on_lost,
            "reconnected_cb": self._on_reconnected,
            "error_cb": self._on_error,
        }
        self._jetstream = self.client.jetstream(timeout=REQUEST_TIMEOUT, publish_async_max_pending=4096)
        connecting = asyncio.create_task(self.client.connect(**options))
        try:
            failure = await attempt(connecting, self._refused, timeout)
        except asyncio.CancelledError:
            await self._abandon(connecting)  # it would connect again indefinitely
            raise
        if isinstance(failure, TimeoutError) and not is_needed:
            self._lost.set()
            self._log.warning("the bus is away, going on without it", reason=self._describe_failure(failure, timeout))
            self._later = asyncio.create_task(self._connect_later(connecting))
            return
        if failure:
            await self._abandon(connecting)
            is_absent = isinstance(failure, TimeoutError) and isinstance(self._last_error, ConnectionRefusedError)
            raise (NoBusError if is_absent else BusError)(self._describe_failure(failure, timeout))
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

    async def _abandon(self, connecting: asyncio.Task[None]) -> None:
        await tasks.cancel(connecting)
        await self.client.abort()

    def _describe_failure(self, error: BaseException, timeout: float) -> str:
        servers = self._credentials.shown
        reason = explain(error, self._credentials) or self._reason
        if reason:
            return f"the bus at {servers} refuses {self.service}: {reason}"
        if not isinstance(error, TimeoutError):
            return f"--nats-url {servers}: {error}; use nats://host:4222"
        last = self._last_error or "no answer"
        return f"no bus at {servers} within {timeout:g} s ({last}): start it, or fix --nats-url"

    async def _on_lost(self) -> None:
        if self._connected.is_set() and not self.client.is_closed:
            self._log.warning("bus lost, reconnecting")
        self._connected.clear()
        self._lost.set()

    async def _on_reconnected(self) -> None:
        self._lost = asyncio.Event()
        self._reason = ""
        self._buckets.forget()
        self.epoch += 1
        self._connected.set()
        self._log.info("bus is back")

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        subject, reason = forbidden(error), explain(error, self._credentials)
        if subject:
            if not self._permission_errors.on_denied(subject):
                self._log.warning("the account may not use this on the bus", subject=subject)
        elif reason and not self._connected.is_set():
            self._on_refused(reason)
        elif self._connected.is_set():
            self._log.warning("bus error", reason=str(error) or type(error).__name__)

    def _on_refused(self, reason: str) -> None:
        """Fail the start when all servers refuse; later, log the refusal, and retry."""
        self._refusals += 1
        if self._refusals >= len(self._credentials.servers):
            self._refused.set()
        if self._lost.is_set() and reason != self._reason:
            self._log.warning("the bus refuses the connection, retrying", reason=reason)
        self._reason = reason

    async def _call(self, what: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await a call that may be repeated."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT + 1):
                return await self.unless_denied(name, retry_until_answered(call, REQUEST_TIMEOUT))
        except BusError as error:
            raise BusError(f"{what}: {error}") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{what}: {error or type(error).__name__}") from error
