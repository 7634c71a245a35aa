"""A repository: host, name and tag, by the rules of the distribution project's references. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

from services.common.errors import SettingsError

FORM = "img://HOST[:PORT]/REPOSITORY[:TAG]"
HUB = "docker.io"

HUB_NAMES = (HUB, "index.docker.io", "registry-1.docker.io")
_HUB_API = "registry-1.docker.io"
_LONGEST_NAME = 255
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::([0-9]+))?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Reference(msgspec.Struct, frozen=True):
    """A repository on a host (with its port), and the followed tag; empty: the highest version is followed."""

    host: str
    repository: str
    tag: str = ""

    @property
    def name(self) -> str:
        """The repository as an engine pulls it."""
        return f"{self.host}/{self.repository}"

    @property
    def api(self) -> str:
        """Host and port that answer the API."""
        return _HUB_API if self.host == HUB else self.host

    @property
    def is_local(self) -> bool:
        """The host is this machine."""
        return is_loopback(host_of(f"//{self.host}"))


def parse(text: str) -> Reference:
    """Parse `host/repository:tag`; short names are Docker Hub's. Raises SettingsError, without the option."""
    host, rest = _split(text)
    host = host.lower()
    repository, separator, tag = rest.partition(":")
    if not host or not repository:
        raise SettingsError(f"a host and a repository are needed: {FORM}")
    _check_host(host)
    if host in HUB_NAMES:
        host, repository = HUB, repository if "/" in repository else f"library/{repository}"
    _check_repository(repository)
    if separator and not is_tag(tag):
        raise SettingsError(f"{tag!r} is not a tag; use at most 128 letters, digits, dots, dashes and underscores")
    return Reference(host, repository, tag)


def is_tag(text: str) -> bool:
    """Return True for a valid tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Return True for a valid digest."""
    return _DIGEST.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Return True if a host without its port is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, without port and brackets; empty if it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _split(text: str) -> tuple[str, str]:
    """Split off the host. A first part that cannot be a host is the start of a Docker Hub name."""
    first, slash, rest = text.partition("/")
    if slash and (not first or first == "localhost" or set(".:[") & set(first)):
        return first, rest
    if not slash and (first.partition(":")[0] == "localhost" or set(".[") & set(first.partition(":")[0])):
        raise SettingsError(f"{first} names a host, but no repository: {FORM}")
    return HUB, text


def _check_host(host: str) -> None:
    match = _HOST.fullmatch(host)
    if not match:
        raise SettingsError(f"{host!r} is not a host; use a name or an address, IPv6 in brackets: {FORM}")
    if match[1].startswith("["):
        try:
            ipaddress.IPv6Address(match[1][1:-1])
        except ValueError:
            raise SettingsError(f"{match[1]} is not an IPv6 address: {FORM}") from None
    if match[2] is not None and not (len(match[2]) <= 5 and 1 <= int(match[2]) <= 65535):
        raise SettingsError(f"{host}: a port is a number from 1 to 65535")


def _check_repository(repository: str) -> None:
    if _REPOSITORY.fullmatch(repository) and len(repository) <= _LONGEST_NAME:
        return
    if repository != repository.lower():
        raise SettingsError(f"repository {repository!r} must be in lower case, such as {repository.lower()}")
    raise SettingsError(
        f"{repository!r} is not a repository; use lower-case letters and digits, with single dots, dashes and "
        f"underscores between them, at most {_LONGEST_NAME} in all"
    )
