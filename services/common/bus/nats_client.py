"""The NATS client of services: it reconnects indefinitely, and never sends secrets in plain text."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult, unquote

import nats.errors
from nats.aio.client import Client, Server, Srv
from nats.aio.msg import Msg

from services.common.bus.credentials import Credentials
from services.common.errors import SettingsError
from services.common.tasks import unless_cancelled

RECONNECT_WAIT = 0.5
PING_INTERVAL = 5
MOST_PINGS = 2
"""Unanswered pings after which a connection counts as lost: a host that died closes no connection."""

_FORBIDDEN = "permissions violation"


class PlainTextError(nats.errors.Error):
    """The server does not offer TLS."""


class SignInError(nats.errors.Error):
    """The file with the login cannot be read any more."""


class AwayError(nats.errors.Error):
    """There is no connection now."""

    def __init__(self) -> None:
        super().__init__("the bus is away")


class ReconnectingClient(Client):
    """The library's client, changed where it would give up, hang, or reveal secrets."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials
        self._left: str = ""

    def options_for(self, service: str) -> dict[str, Any]:
        """Return the arguments of `connect`. Raises SettingsError."""
        credentials = self._credentials
        options: dict[str, Any] = {
            "servers": credentials.servers,
            "name": f"longshore-{service}",
            "max_reconnect_attempts": -1,
            "reconnect_to_server_handler": self._next,
            "connect_timeout": 2,
            "reconnect_time_wait": 0.1,
            "ping_interval": PING_INTERVAL,
            "max_outstanding_pings": MOST_PINGS,
            "inbox_prefix": f"_INBOX_{service}",
            "pending_size": 32 << 20,
            "tls": credentials.context(),
        }
        if credentials.user:
            options |= {"user": credentials.user, "password": credentials.password}
        if credentials.nkey_file or credentials.creds:
            options["signature_cb"] = lambda nonce: _readable(credentials.nkey).sign(nonce)
        if credentials.nkey_file:
            self._public_nkey = credentials.nkey().public
        if credentials.creds:
            options["user_jwt_cb"] = lambda: _readable(credentials.jwt).encode()
        return options

    async def connect(self, *args: Any, **options: Any) -> None:
        """Connect as the library does."""
        await unless_cancelled(super().connect(*args, **options))

    async def request(self, *args: Any, **options: Any) -> Msg:
        """Send a request and return the reply, as the library does."""
        return await unless_cancelled(super().request(*args, **options))

    async def flush(self, *args: Any, **options: Any) -> None:
        """Wait until the server has what was sent.

        The library's ping overtakes what it has not written yet, so that is written first.
        """
        await unless_cancelled(self._flush_pending(force_flush=True))
        await unless_cancelled(super().flush(*args, **options))

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message. Raises AwayError when there is no connection.

        The library would keep the message, and send it when its sender has stopped waiting.
        """
        if not self.is_connected:
            raise AwayError
        await super().publish(subject, payload, reply, headers)

    async def leave(self) -> None:
        """Connect to another server if there is one."""
        self._left = self._current_server.uri.netloc if self._current_server else ""
        await self.force_reconnect()

    async def abort(self) -> None:
        """Close without sending pending messages."""
        self._abort()
        if self._flush_queue:  # else there was never a connection
            with contextlib.suppress(OSError):
                await self.close()

    def _next(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        others = [server for server in servers if server.uri.netloc != self._left]
        self._left = ""
        return random.choice(others or servers), RECONNECT_WAIT * random.uniform(0.5, 1.5)

    def _connect_command(self) -> bytes:
        """Refuse plain text: the library would follow a server, or an attacker in between, that denies knowing TLS."""
        if self._credentials.tls and not self._is_encrypted():
            raise PlainTextError("the server does not offer TLS")
        if self._current_server and not self._credentials.names_account:
            named = [server.uri for server in self._server_pool if server.uri.username is not None]
            self.options |= signed_in([self._current_server.uri, *named])
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        """Reconnect after an error: the library would close for good when, say, a password changes on the server."""
        if _FORBIDDEN in err_msg.lower():
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg.strip()}")
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _attempt_reconnect(self) -> None:
        """Abort first: the library would wait until its data is sent, which never happens to a host that died."""
        self._abort()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        """Abort and clear first: the library would leave a connection open that failed after it was made.

        It would also send the pending messages of the lost connection. It renews subscriptions itself.
        """
        self._abort()
        self._pending, self._pending_data_size = [], 0
        await super()._connect_to_server(s)

    def _abort(self) -> None:
        for writer in self._writers():
            writer.transport.abort()

    def _is_encrypted(self) -> bool:
        return any(writer.get_extra_info("ssl_object") for writer in self._writers())

    def _writers(self) -> list[asyncio.StreamWriter]:
        """Return the writers of the connection, and of the plain connection below it in case of TLS."""
        writers = [getattr(self._transport, name, None) for name in ("_io_writer", "_bare_io_writer")]
        return [writer for writer in writers if writer]


def signed_in(urls: list[ParseResult]) -> dict[str, str | None]:
    """Return the login in URLs: a user and a password, or a token in the user's place.

    They are percent-encoded, since each may hold a delimiter: `@ / : # ? %`. The first URL is the server's own. It has
    no login if a server of the cluster announced it; then the first of the others with a login counts.
    """
    url = next((url for url in urls if url.username is not None), None)
    if url is None or url.username is None:
        return {"user": None, "password": None, "token": None}
    if url.password is None:
        return {"user": None, "password": None, "token": unquote(url.username)}
    return {"user": unquote(url.username), "password": unquote(url.password), "token": None}


def _readable(read: Callable[[], Any]) -> Any:
    """Read a file now. Its errors become those of a connection, so that the client retries."""
    try:
        return read()
    except SettingsError as error:
        raise SignInError(str(error)) from None


async def attempt(connecting: asyncio.Task[None], enough: asyncio.Event, timeout: float) -> BaseException | None:
    """Wait for a first connection, or for `enough`. Return None when there is one, else the error.

    A TimeoutError means that the attempt goes on.
    """
    waiting = asyncio.ensure_future(enough.wait())
    try:
        await asyncio.wait({connecting, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return connecting.exception() if connecting.done() else TimeoutError()
