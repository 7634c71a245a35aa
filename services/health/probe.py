"""A probe of a replica: an HTTP request or a TCP connection, always a new one, within a total time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Self

import h11
import httpx
import msgspec

from schemas.routing import Replica, authority

LARGEST_BODY = 64 << 10  # bytes
HEADERS = {"User-Agent": "longshore-health", "Connection": "close"}

FAILURES = (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError, ExceptionGroup)

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "reset"),
    (socket.gaierror, "unresolved"),
    (OSError, "unreachable"),
    (h11.RemoteProtocolError, "bad answer"),
    (httpx.InvalidURL, "bad path"),
    (ValueError, "bad address"),
    (OverflowError, "bad address"),
)


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of a probe: `reason` is empty when it passed, `latency` is in seconds."""

    latency: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the probe passed."""
        return not self.reason


class Prober:
    """Probes replicas, at most `concurrency` at once. Use it as an async context manager.

    It uses the transport of httpx, not its client: it follows no redirects, keeps no cookies, takes no proxies from the
    environment and uses no connection twice.
    """

    def __init__(self, concurrency: int) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._http = httpx.AsyncHTTPTransport(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # probes are plain HTTP: load no certificates
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def probe(self, replica: Replica) -> Outcome:
        """Probe a replica once, as its Check says. An error of the replica is an outcome, not an exception."""
        async with self._slots:
            started = time.perf_counter()
            reason = await self._reason(replica)
            return Outcome(time.perf_counter() - started, reason)

    async def _reason(self, replica: Replica) -> str:
        try:
            async with asyncio.timeout(replica.check.timeout):
                return await (self._get(replica) if replica.check.path else _connect(replica))
        except FAILURES as error:
            return reason_of(error)

    async def _get(self, replica: Replica) -> str:
        response = await self._http.handle_async_request(httpx.Request("GET", _url(replica), headers=HEADERS))
        async with contextlib.aclosing(response):
            await _read(response)
        return "" if 200 <= response.status_code < 400 else f"status {response.status_code}"


def reason_of(error: BaseException) -> str:
    """Return a failed probe's error in one or two words: the most specific of its causes."""
    causes = list(_causes(error))
    return next((reason for kind, reason in _REASONS if any(isinstance(cause, kind) for cause in causes)), "closed")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def _url(replica: Replica) -> str:
    return f"http://{authority(replica.host, replica.port)}{replica.check.path}"


async def _read(response: httpx.Response) -> None:
    """Read the whole answer, up to LARGEST_BODY: an application logs an error when it is cut off while it answers."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > LARGEST_BODY:
            return


async def _connect(replica: Replica) -> str:
    _, writer = await asyncio.open_connection(replica.host, replica.port)
    refused = is_own_end(writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return "refused" if refused else ""


def is_own_end(writer: asyncio.StreamWriter) -> bool:
    """Return whether the connection is with itself.

    The kernel can give a port of the ephemeral range on which no program listens to the very socket that connects to
    it, and TCP then joins both ends (RFC 9293, simultaneous open).
    """
    return bool(writer.get_extra_info("sockname") == writer.get_extra_info("peername"))
