"""Who may ask what. Reading from this host is free, unless a web page of elsewhere makes a browser do it."""

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
    """Raises what `check` finds wrong with a request; an address says with opt={"access": ...} what it needs."""
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
    """Raises HTTPException: 401 without a token that is needed or with a wrong one, 421 for a foreign Host.

    A name that leads to a loopback address tells that a web page of elsewhere is asking (DNS rebinding).
    """
    if access == "open":
        return
    opens = tokens.opens_metrics if access == "metrics" else tokens.is_admin
    if presented is not None:
        if not opens(presented):
            raise unauthorized(access, 'error="invalid_token"', "this token is wrong: ")
        return
    if needs_token(access, tokens, is_on_loopback):
        raise unauthorized(access, "", "a token is needed: ")
    if is_on_loopback and not is_local(host):
        raise HTTPException(
            status_code=421, detail=f"no answer for the host {host[:100]!r} without a token: ask localhost"
        )


def needs_token(access: Access, tokens: Tokens, is_on_loopback: bool) -> bool:
    """Verbs always do, metrics when they have a token of their own, the rest where others can reach it."""
    if access == "metrics":
        return bool(tokens.metrics)
    return access == "command" or not is_on_loopback


def bearer(header: str) -> str | None:
    """The token of an Authorization header, None if it carries none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_local(host: str) -> bool:
    """Whether a Host header names this machine by itself: localhost or any address, which nobody can redirect."""
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
    challenge = ", ".join(['Bearer realm="longshore"', *filter(None, [error])])
    advice = METRICS if access == "metrics" else ADMIN
    return HTTPException(status_code=401, detail=problem + advice, headers={"www-authenticate": challenge})
