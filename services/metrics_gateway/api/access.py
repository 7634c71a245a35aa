"""Access control. Reading from this host needs no token, except for web pages of other sites."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Literal

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from services.metrics_gateway.api.tokens import Tokens

Access = Literal["open", "metrics", "read", "command"]

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::[0-9]*)?")

ADMIN = "send `Authorization: Bearer` with the token in the admin token file"
METRICS = "send `Authorization: Bearer` with the token of --metrics-token"


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raise the error that `check` raises for a request. A route names its access with opt={"access": ...}."""
    gateway = connection.app.state.gateway
    access: Access = handler.opt.get("access", "command")
    check(
        access,
        gateway.tokens,
        bearer(connection.headers.get("authorization", "")),
        connection.headers.get("host", ""),
        gateway.settings.is_on_loopback,
    )


def check(access: Access, tokens: Tokens, presented: str | None, host: str, is_on_loopback: bool) -> None:
    """Raise HTTPException: 401 for a missing or wrong token, 421 for a foreign Host.

    A foreign name that resolves to a loopback address is the sign of a web page of another site (DNS rebinding).
    """
    if access == "open":
        return
    opens = tokens.opens_metrics if access == "metrics" else tokens.is_admin
    if presented is not None:
        if not opens(presented):
            raise unauthorized(access, 'error="invalid_token"', "wrong token: ")
        return
    if needs_token(access, tokens, is_on_loopback):
        raise unauthorized(access, "", "token needed: ")
    if is_on_loopback and not is_local(host):
        raise HTTPException(
            status_code=421, detail=f"the host {host[:100]!r} needs a token: use localhost, or send one"
        )


def needs_token(access: Access, tokens: Tokens, is_on_loopback: bool) -> bool:
    """Return whether a token is needed: always for commands, for metrics if configured, else beyond loopback."""
    if access == "metrics":
        return bool(tokens.metrics)
    return access == "command" or not is_on_loopback


def bearer(header: str) -> str | None:
    """Return the token of an Authorization header, None if it has none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_local(host: str) -> bool:
    """Return whether a Host header is localhost or an IP address, which no DNS server can redirect."""
    match = _HOST.fullmatch(host)
    name = match["name"].lower().rstrip(".") if match else ""
    if not host or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def unauthorized(access: Access, error: str, problem: str) -> HTTPException:
    """Return the error for a missing or wrong token, with the challenge that HTTP requires."""
    challenge = ", ".join(['Bearer realm="longshore"', *filter(None, [error])])
    advice = METRICS if access == "metrics" else ADMIN
    return HTTPException(status_code=401, detail=problem + advice, headers={"www-authenticate": challenge})
