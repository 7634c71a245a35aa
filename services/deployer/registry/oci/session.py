"""Authorized, conditional requests to one registry. One deadline covers all of a request."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from services.common.errors import RegistryError
from services.deployer.registry.oci.auth import Auth
from services.deployer.registry.oci.reference import Reference
from services.deployer.registry.oci.transport import Answer, Transport, failure, join, origin

TIMEOUT = 20.0
CONNECT_TIMEOUT = 8.0
MAX_REMEMBERED = 128
MAX_REMEMBERED_BODY = 256 * 1024
MAX_ETAG = 256
"""Characters. It is sent back with each request, and servers take only so many of headers."""

_HEADERS = {"User-Agent": "longshore", "Accept-Encoding": "identity"}


class Session:
    """Requests to one registry. It keeps the authorization, and answers with their ETags, but no connection."""

    def __init__(self, reference: Reference, is_plain: bool, is_insecure: bool) -> None:
        """Open no connection yet. `is_plain`: http instead of https; `is_insecure`: the user accepts that risk."""
        self.base = f"{'http' if is_plain else 'https'}://{reference.api}/v2/{reference.repository}/"
        self._reference = reference
        self._auth = Auth(reference, is_insecure)
        self._remembered: dict[tuple[str, str], Answer] = {}
        # Also over plain http: tokens may have to be fetched over https.
        self._tls = ssl.create_default_context()

    async def ask(self, method: str, target: str, accept: str = "", is_conditional: bool = True) -> Answer:
        """Return the answer (200 or 404) for a path below `base`, or for the whole URL that a link gave.

        `is_conditional`: it may be an earlier one, if the registry says that this has not changed.
        Raises RegistryError for every other one, and when none comes within the timeout.
        """
        return self.checked(await self.fetch(method, target, accept, is_conditional))

    async def fetch(self, method: str, target: str, accept: str = "", is_conditional: bool = True) -> Answer:
        """Return the answer as `ask` does, whatever its status is."""
        url = join(self.base, target)
        try:
            async with asyncio.timeout(TIMEOUT), self._open() as client:
                return await self._ask(Transport(client), method, url, accept, is_conditional)
        except TimeoutError:
            raise RegistryError(
                f"{self._reference.name}: no complete answer within {TIMEOUT:g} s; is it overloaded?"
            ) from None

    def checked(self, answer: Answer) -> Answer:
        """Return the answer if its status is 200 or 404. Raises RegistryError for any other."""
        if answer.status in (401, 403):
            if origin(answer.url) == origin(self.base):
                raise self._auth.denied(answer, self._reference.name)
            raise RegistryError(
                f"{self._reference.name}: access denied ({answer.status}) by {origin(answer.url)}, to which it leads; "
                f"credentials go to {origin(self.base)} alone: if images are there, name that host in --registry"
            )
        if answer.status not in (200, 404):
            raise failure(answer, self._reference.name)
        return answer

    def _open(self) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                verify=self._tls,
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
                headers=_HEADERS,
                # A proxy of the environment could not reach what is local to us.
                trust_env=not self._reference.is_local,
            )
        except (httpx.InvalidURL, ValueError, ImportError):
            raise RegistryError(
                f"{self._reference.name}: a proxy of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or NO_PROXY cannot be used: "
                "write http://host:port"
            ) from None

    async def _ask(self, transport: Transport, method: str, url: str, accept: str, is_conditional: bool) -> Answer:
        known = self._remembered.get((method, url)) if is_conditional else None
        headers = {"Accept": accept} if accept else {}
        if known:
            headers["If-None-Match"] = known.headers["etag"]
        answer = await self._authorized(transport, method, url, headers)
        if answer.status == 304 and known:
            return known
        self._remember(method, url, answer)
        return answer

    async def _authorized(self, transport: Transport, method: str, url: str, headers: dict[str, str]) -> Answer:
        """Ask with credentials, which only the registry gets: a link to another host is followed without."""
        if origin(url) != origin(self.base):
            return await transport.get(url, headers, method=method)
        answer = await transport.get(url, headers, self._auth.header, method)
        is_ours = origin(answer.url) == origin(self.base)
        if answer.status != 401 or not is_ours:
            return answer
        if not await self._auth.meet(answer.headers.get_list("www-authenticate"), transport):
            return answer
        return await transport.get(url, headers, self._auth.header, method)

    def _remember(self, method: str, url: str, answer: Answer) -> None:
        self._remembered.pop((method, url), None)
        etag = answer.headers.get("etag", "")
        is_usable = 0 < len(etag) <= MAX_ETAG and etag.isascii()
        if answer.status == 200 and is_usable and len(answer.body) <= MAX_REMEMBERED_BODY:
            self._remembered[method, url] = answer
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
