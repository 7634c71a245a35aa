"""HTTP for a registry client: bounded bodies, redirects that keep secrets, errors in one line."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

from services.common.errors import RegistryError
from services.deployer.registry.oci.headers import retry_after

MAX_BODY = 16 * 1024 * 1024
MAX_REDIRECTS = 5

_REDIRECTS = (301, 302, 303, 307, 308)


class Answer(msgspec.Struct, frozen=True):
    """A complete response. `url`: the last URL that was asked, after redirects."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: str


class Transport:
    """Requests on one httpx client, none of them slower than the caller's deadline or bigger than MAX_BODY."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, url: str, headers: Mapping[str, str], authorization: str = "", method: str = "GET") -> Answer:
        """Return the answer after redirects. The authorization is sent to the origin of `url` and nowhere else.

        Raises RegistryError if there is no complete answer.
        """
        home = origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            granted = {"Authorization": authorization} if authorization and origin(url) == home else {}
            answer = await self._exchange(method, url, {**headers, **granted})
            target = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not target:
                return answer
            url = join(url, target)
        raise RegistryError(f"{home} redirects more than {MAX_REDIRECTS} times: fix --registry")

    async def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Return the answer to a form; no redirect is followed. Raises RegistryError if there is no complete answer."""
        return await self._exchange("POST", url, {}, form)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            async with self._client.stream(method, url, headers=dict(headers), data=form) as response:
                _check_encoding(response)
                return Answer(response.status_code, response.headers, await _body(response), url)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise RegistryError(f"{origin(url)}: {words(error)}") from None


def _check_encoding(response: httpx.Response) -> None:
    """Raise RegistryError for a compressed body: we did not ask for one, and would hash it as it is."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if response.status_code == 200 and encoding not in ("", "identity"):
        raise RegistryError(
            f"{origin(str(response.url))} compresses its answer, although it is asked not to; turn that off in "
            "it, or in the proxy before it"
        )


async def _body(response: httpx.Response) -> bytes:
    whole = bytearray()
    async for chunk in response.aiter_raw():
        whole += chunk
        if len(whole) > MAX_BODY:
            raise RegistryError(
                f"{origin(str(response.url))} answers with more than {MAX_BODY >> 20} MiB; is it a registry?"
            )
    return bytes(whole)


def origin(url: str) -> str:
    """Return scheme, host and port of a URL; empty if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def join(base: str, target: str) -> str:
    """Return the URL of a link or redirect. Raises RegistryError unless it may be followed from `base`."""
    try:
        url = urljoin(base, target)
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_url = False
    if not is_url:
        raise RegistryError(f"{origin(base)} points to something that is not a URL; is it a registry?")
    if base.startswith("https:") and parts.scheme == "http":
        raise RegistryError(f"{origin(base)} points to {origin(url)}, which is not encrypted: not followed")
    return url


def failure(answer: Answer, where: str) -> RegistryError:
    """Return the error for an unexpected answer."""
    after = retry_after(answer.headers, datetime.now(UTC))
    wait = f"; not asked again for {after:.0f} s, as it wishes" if after else ""
    if answer.status == 429:
        return RegistryError(f"{where}: too many requests (429){wait}; a longer --interval asks less", after)
    if answer.status >= 500:
        return RegistryError(f"{where}: the registry fails ({answer.status}){wait}; see its log if that lasts", after)
    return RegistryError(f"{where}: unexpected status {answer.status}; is it a registry?", after)


def words(error: BaseException) -> str:
    """Describe a network error for people, without the request."""
    if isinstance(error, httpx.ConnectTimeout):
        return "does not take the connection in time: is it up, and does it speak https?"
    if isinstance(error, httpx.ProxyError):
        return "the proxy of HTTPS_PROXY or its like does not connect to it: fix that, or name the host in NO_PROXY"
    reason = ""
    seen: BaseException | None = error
    while seen:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({seen.verify_message}): fix it, or name the CA by SSL_CERT_FILE"
        if isinstance(seen, ssl.SSLError):
            return "speaks no TLS that we do: if it has none, use ?insecure=true"
        if isinstance(seen, socket.gaierror):
            # Names that are not there are the registry's; everything else is this machine's resolver.
            is_unknown = seen.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            return "no such host: fix --registry" if is_unknown else f"its name cannot be looked up ({seen.strerror})"
        if isinstance(seen, ConnectionRefusedError):
            return "refuses the connection: is it up?"
        reason = seen.strerror if isinstance(seen, OSError) and seen.strerror else reason
        seen = seen.exceptions[0] if isinstance(seen, BaseExceptionGroup) else seen.__cause__ or seen.__context__
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({reason})" if reason else "cannot be reached"
    if isinstance(error, httpx.InvalidURL | UnicodeError):
        return "points to something that is not a URL; is it a registry?"
    return "cut the connection, or answered something that is not HTTP"
