"""Authorization at a registry: a token from the realm that it names, or Basic."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urldefrag, urlencode, urlsplit

import msgspec

from services.common import log
from services.common.errors import RegistryError
from services.deployer.registry.oci import credentials
from services.deployer.registry.oci.credentials import PASSWORD, USERNAME, Credentials, Search
from services.deployer.registry.oci.headers import Challenge, HeaderError, challenge, retry_after
from services.deployer.registry.oci.reference import HUB, Reference, host_of, is_loopback
from services.deployer.registry.oci.transport import Answer, Transport, failure, origin

CLIENT = "longshore"
MARGIN = 5.0
"""Seconds before the end of a token's lifetime from which a new one is requested."""

_DEFAULT_LIFE = 60.0

_MAX_TOKEN = 64 * 1024
"""Characters. A token is sent with each request, and no server takes that much of a header."""


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None

    @property
    def text(self) -> str:
        return self.token or self.access_token or ""

    @property
    def life(self) -> float:
        """The seconds for which we use the token: its own lifetime, less a margin for the way."""
        return max((self.expires_in or _DEFAULT_LIFE) - MARGIN, MARGIN)


class Auth:
    """The Authorization header that a registry accepts: kept from the first challenge until it expires.

    Tokens are requested as the distribution project specifies it, with the least scope: to pull this repository.
    """

    def __init__(self, reference: Reference, is_insecure: bool) -> None:
        self._reference = reference
        self._is_insecure = is_insecure
        self._header = ""
        self._until = 0.0
        self._search: Search | None = None
        self._asked: Challenge | None = None
        self._has_warned = False
        self._log = log.get("deployer")

    @property
    def header(self) -> str:
        """The Authorization header to send; empty: none yet."""
        return self._header if time.monotonic() < self._until else ""

    async def meet(self, values: Sequence[str], transport: Transport) -> bool:
        """Get the authorization that the WWW-Authenticate headers of a 401 ask for. Return False if we have none.

        Raises RegistryError if the realm gives no token, or must not be trusted with credentials.
        """
        self._header = ""
        self._asked = asked = self._challenge(values)
        self._search = await credentials.find(self._reference.name, os.environ)
        found = self._search.found
        if asked and asked.scheme == "bearer":
            token = await self._token(asked, found, transport)
            self._keep(f"Bearer {token.text}", token.life)
        elif asked and found and found.username:
            self._keep(found.basic, float("inf"))
        if found and self._header:
            self._warn()
        return bool(self._header)

    def denied(self, answer: Answer, what: str) -> RegistryError:
        """Return the error for a 401 or 403: it names the credentials that were tried, and where to put better ones."""
        after = retry_after(answer.headers, datetime.now(UTC))
        return RegistryError(f"{what}: access denied ({answer.status}); {self._tried()}", after)

    def _challenge(self, values: Sequence[str]) -> Challenge | None:
        try:
            return challenge(values)
        except HeaderError as error:
            raise RegistryError(
                f"{self._reference.name}: its WWW-Authenticate header cannot be read ({error}); is it a registry?"
            ) from None

    def _warn(self) -> None:
        if self._is_insecure and not self._reference.is_local and not self._has_warned:
            self._has_warned = True
            self._log.warning(
                "credentials are sent without encryption", registry=self._reference.name, option="insecure=true"
            )

    def _keep(self, header: str, seconds: float) -> None:
        self._header, self._until = header, time.monotonic() + seconds

    def _tried(self) -> str:
        if self._search is None:
            return "it asked for no credentials: fix --registry, or its permissions for anonymous users"
        if self._asked is None:
            return "it asks for an authentication that is neither Bearer nor Basic"
        problems = "".join(f"; {problem}" for problem in self._search.problems)
        if self._search.found and self._asked.scheme == "basic" and not self._search.found.username:
            return f"it asks for a name and a password, and {self._search.found.source} has an identity token{problems}"
        if self._search.found:
            return f"tried the credentials of {self._search.found.source}: fix them{problems}"
        login = "docker login" if self._reference.host == HUB else f"docker login {self._reference.host}"
        return f"there are no credentials for it: set {USERNAME} and {PASSWORD}, or use `{login}`{problems}"

    async def _token(self, asked: Challenge, found: Credentials | None, transport: Transport) -> _Token:
        self._check_realm(asked.realm, found)
        scope = f"repository:{self._reference.repository}:pull"
        query = {"service": asked.service, "scope": scope} if asked.service else {"scope": scope}
        if found and found.identity_token:
            grant = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": found.identity_token}
            answer = await transport.post(asked.realm, {**query, **grant})
        else:
            realm = urldefrag(asked.realm).url
            joint = "&" if urlsplit(realm).query else "?"
            url = f"{realm}{joint}{urlencode(query)}"
            answer = await transport.get(url, {}, found.basic if found else "")
        return self._read(answer, asked.realm)

    def _check_realm(self, realm: str, found: Credentials | None) -> None:
        """Raise RegistryError unless credentials may go to a realm: it is encrypted, or on this machine."""
        scheme, host = realm.partition("://")[0].lower(), host_of(realm)
        if scheme not in ("http", "https") or not host or "@" in realm:
            raise RegistryError(f"{self._reference.host} asks for a token, but not from a URL; is it a registry?")
        is_safe = scheme == "https" or (is_loopback(host) and self._reference.is_local) or self._is_own(realm)
        if not is_safe and (found or not self._is_insecure):
            raise RegistryError(
                f"{self._reference.host} names {origin(realm)} for tokens, which is neither https nor on this "
                "machine with it: no credentials are sent there"
            )

    def _is_own(self, realm: str) -> bool:
        """Return True if the realm is the registry itself, to which the user lets credentials go in the clear."""
        return self._is_insecure and origin(realm) == origin(f"http://{self._reference.api}")

    def _read(self, answer: Answer, realm: str) -> _Token:
        where = f"{origin(realm)}, which gives tokens for {self._reference.host}"
        if answer.status in (400, 401, 403):
            raise self.denied(answer, where)
        if answer.status != 200:
            raise failure(answer, where)
        try:
            token = msgspec.json.decode(answer.body, type=_Token)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            # The text names fields and types, and no values.
            raise RegistryError(
                f"{where}, answered something that is not a token ({error}); is it a registry?"
            ) from None
        if len(token.text) > _MAX_TOKEN or not re.fullmatch(r"[!-~]+", token.text):
            raise RegistryError(f"{where}, answered without a token; is it a registry?")
        return token
