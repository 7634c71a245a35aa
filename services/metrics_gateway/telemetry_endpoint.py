"""The endpoint of pushes, as options and OpenTelemetry's variables name it."""

from __future__ import annotations

import re

import msgspec

from services.common.config.settings import check_port
from services.common.errors import SettingsError

_HOST = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_TARGET = re.compile(_HOST + r":(?P<port>[0-9]{1,9})")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*).*", re.DOTALL)
_AUTHORITY = re.compile(_HOST + r"(?::(?P<port>[0-9]{0,9}))?")
_PORTS = {"http": 4317, "https": 443}
"""Ports of a URL without one: OTLP's own in plain text, as in the specification; that of https with TLS."""


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint. `target` is host:port; `is_secure` is the choice of a URL's scheme, None without one."""

    target: str
    is_secure: bool | None = None


def parse_target(option: str, text: str) -> Endpoint:
    """Return the endpoint of an option, host:port. Raises SettingsError."""
    if "://" in text:
        raise SettingsError(
            f"{option}: {_shown(text)} is a URL; write host:port (gRPC; --otlp-insecure for plain text)"
        )
    match = _TARGET.fullmatch(text)
    if not match:
        raise SettingsError(f"{option} {text!r}: write host:port, such as localhost:4317")
    check_port(option, int(match["port"]))
    return Endpoint(text)


def parse(variable: str, text: str) -> Endpoint:
    """Return the endpoint of a variable: a URL, whose path gRPC ignores, or host:port. Raises SettingsError."""
    text = text.strip()
    url = _URL.fullmatch(text)
    if not url:
        return parse_target(variable, text)
    scheme = url["scheme"].lower()
    if scheme not in _PORTS:
        raise SettingsError(f"{variable}: {_shown(text)}: use http://, https:// or host:port")
    if "@" in url["authority"]:
        raise SettingsError(f"{variable}: no user or password in the URL; send a header (the URL is not shown here)")
    match = _AUTHORITY.fullmatch(url["authority"])
    if not match:
        raise SettingsError(f"{variable}: {_shown(text)}: write {scheme}://host:port")
    port = int(match["port"] or _PORTS[scheme])
    check_port(variable, port)
    return Endpoint(f"{match['host']}:{port}", scheme == "https")


def _shown(text: str) -> str:
    """Return the URL without the part that may be a secret."""
    return repr(re.sub(r"//[^/]*@", "//…@", text))
