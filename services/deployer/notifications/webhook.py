"""Notices as JSON to an HTTP server, signed with a shared secret."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from services.common.version import VERSION
from services.deployer.notifications.errors import UndeliveredError
from services.deployer.notifications.notice import Notice
from services.deployer.notifications.target import Target, scrubbed

SECRET = "LONGSHORE_NOTIFY_SECRET"
SIGNATURE = "Longshore-Signature"
TRY_LATER = (408, 425, 429)


def sign(body: bytes, secret: str) -> str:
    """Return the header's value: HMAC-SHA256 over the body (RFC 2104), in hexadecimal."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


async def deliver(target: Target, notice: Notice, secret: str) -> None:
    """POST one notice. Raises UndeliveredError unless the answer is 2xx."""
    import httpx  # only a deployer that sends notices pays for it

    body = msgspec.json.encode(notice)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"longshore/{VERSION}",
        SIGNATURE: sign(body, secret),
    }
    try:
        async with (
            httpx.AsyncClient(timeout=None) as client,
            client.stream("POST", target.address, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise UndeliveredError(scrubbed(str(error) or type(error).__name__, target.url)) from None
    if not 200 <= status < 300:
        raise UndeliveredError(f"HTTP status {status}", is_final=status < 500 and status not in TRY_LATER)
