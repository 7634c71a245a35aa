"""Streams of the engine: its events, and the progress of a pull. Not through the SDK, which would block."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore
import httpx
import msgspec

from services.common.errors import EngineError

if TYPE_CHECKING:
    import docker


CHUNK = 1 << 15


class Stream:
    """Objects that the engine sends one after another until the connection is closed."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self.client = client
        self.response = response

    async def objects(self) -> AsyncIterator[dict[str, Any]]:
        """Yield objects until the engine or `close` ends the stream, or it is silent for too long."""
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            rest = b""
            async for chunk in self.response.aiter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    with contextlib.suppress(msgspec.MsgspecError):
                        yield msgspec.json.decode(line, type=dict[str, Any])

    async def data(self) -> AsyncIterator[bytes]:
        """Yield bytes until the engine or `close` ends the stream."""
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            async for chunk in self.response.aiter_raw():
                yield chunk

    async def close(self) -> None:
        """Close the connection, which ends the engine's work for it."""
        await self.response.aclose()
        await self.client.aclose()


class Connection:
    """Bytes in both directions, after the engine has upgraded a request (Docker's "hijacked" connections)."""

    def __init__(self, client: httpx.AsyncClient, response: httpx.Response) -> None:
        self._client = client
        self._response = response
        self._stream: httpcore.AsyncNetworkStream = response.extensions["network_stream"]

    async def read(self) -> bytes:
        """Return what the engine sends, empty at the end."""
        try:
            return await self._stream.read(CHUNK)
        except httpcore.NetworkError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send bytes. What a command that has ended would get is dropped."""
        with contextlib.suppress(httpcore.NetworkError):
            await self._stream.write(data)

    def end(self) -> None:
        """Send the end of the input. TLS has no half-closed connection: over it, the command waits for more."""
        if self._stream.get_extra_info("ssl_object") is None:
            with contextlib.suppress(OSError):
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(httpcore.NetworkError, OSError):
            await self._stream.aclose()
        await self._response.aclose()
        await self._client.aclose()


async def upgrade(
    client: docker.APIClient, engine: str, path: str, query: dict[str, str], body: dict[str, Any], timeout: float
) -> Connection:
    """Post a request whose connection then carries bytes in both directions. Raises as `begin` does."""
    headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
    content = msgspec.json.encode(body) if body else b""  # a body of an attach would be input of the command
    stream = await begin(client, engine, ("post", path), query, headers, (timeout, None), content)
    return Connection(stream.client, stream.response)


async def begin(
    client: docker.APIClient,
    engine: str,
    call: tuple[str, str],
    query: dict[str, str],
    headers: dict[str, str],
    timeouts: tuple[float, float | None],
    content: bytes | None = None,
) -> Stream:
    """Ask the engine for a stream, with the connection and version of the SDK's client.

    `call`: method and path. `timeouts`: seconds for the answer to begin, and for a silence (None: any). Raises
    EngineError for a refusal, ConnectionError when the engine does not answer.
    """
    streaming = _client(client, engine, timeouts)
    method, path = call
    try:
        address = f"/v{client.api_version}/{path}"
        request = streaming.build_request(method, address, params=query, headers=headers, content=content)
        response = await streaming.send(request, stream=True)
        if response.is_error:
            raise EngineError(_explanation(await response.aread()), response.status_code)
    except httpx.HTTPError as error:
        await streaming.aclose()
        raise ConnectionError(str(error) or type(error).__name__) from None
    except BaseException:
        await streaming.aclose()
        raise
    return Stream(streaming, response)


def _client(client: docker.APIClient, engine: str, timeouts: tuple[float, float | None]) -> httpx.AsyncClient:
    """Return a client for one stream of the engine that the SDK's client is connected to."""
    place, timeout = urlsplit(engine), httpx.Timeout(timeouts[0], read=timeouts[1])
    if place.scheme == "unix":
        transport = httpx.AsyncHTTPTransport(uds=place.path)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=timeout)
    verify = _tls(client) if client.base_url.startswith("https://") else False
    return httpx.AsyncClient(verify=verify, base_url=client.base_url, timeout=timeout, trust_env=False)


def _tls(client: docker.APIClient) -> ssl.SSLContext:
    """Return the TLS settings that the SDK took from DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    context = ssl.create_default_context(cafile=client.verify if isinstance(client.verify, str) else None)
    if client.verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client.cert:
        context.load_cert_chain(*client.cert)
    return context


def _explanation(content: bytes) -> str:
    """Return the engine's explanation of a refusal."""
    try:
        text = msgspec.json.decode(content, type=dict[str, str])["message"]
    except (msgspec.MsgspecError, LookupError):
        text = content.decode(errors="replace")
    return " ".join(text.split())
