"""The status page: one file. A browser runs only the script and the style in it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from litestar import Response, get
from litestar.enums import MediaType

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@get("/", opt={"access": "open"}, include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def page() -> Response[str]:
    """Return the page. It holds no data: its script asks the API, with a token where one is needed."""
    text = source()
    headers = {"content-security-policy": policy(text), "referrer-policy": "no-referrer"}
    return Response(text, media_type=MediaType.HTML, headers=headers)


@cache
def source() -> str:
    """Return the page as it is sent."""
    return (Path(__file__).parents[1] / "page" / "index.html").read_text(encoding="utf-8")


def policy(text: str) -> str:
    """Return a Content-Security-Policy that allows only the page's own script and style, and this server."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for tag, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[tag].append(f"'sha256-{digest}'")
    sources = [f"{tag}-src {' '.join(found)}" for tag, found in hashes.items()]
    rest = ["connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return "; ".join(["default-src 'none'", *sources, *rest])


HANDLERS = [page]
