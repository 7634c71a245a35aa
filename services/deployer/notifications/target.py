"""The targets of notices: the URLs of --notify. They hold secrets, so none is ever shown as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import msgspec

from services.common.errors import SettingsError

WEBHOOK = "webhook+"
SHORTEST = 3
LONGEST = 200

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^\s\x00-\x1f\x7f]*")


class Target(msgspec.Struct, frozen=True):
    """One target: a webhook if its URL starts with `webhook+`, else a service that the apprise library understands."""

    url: str

    @property
    def is_webhook(self) -> bool:
        """It is a webhook."""
        return self.url.startswith(WEBHOOK)

    @property
    def address(self) -> str:
        """The plain http or https URL of a webhook."""
        return self.url.removeprefix(WEBHOOK)

    @property
    def name(self) -> str:
        """The part of the URL that may be shown."""
        scheme, _, _ = self.url.partition("://")
        if not self.is_webhook:
            return f"{scheme}://***"
        parts = urlsplit(self.address)
        port = f":{parts.port}" if parts.port else ""
        return f"{scheme}://{parts.hostname}{port}/***"


def parse(urls: Sequence[str]) -> list[Target]:
    """Return the targets that --notify names. Raises SettingsError."""
    return [_parse(url, number) for number, url in enumerate(urls, 1)]


def refusal(number: int, target: Target, problem: str) -> SettingsError:
    """Return the error for a target, without its URL."""
    return SettingsError(f"--notify number {number} ({target.name}): {problem}")


def scrubbed(text: str, url: str) -> str:
    """Return a message about a URL as one short line, without any part of the URL."""
    _, _, rest = url.partition("://")
    parts = {part for form in (rest, unquote(rest)) for part in re.split(r"[/:@?&=,#;]+", form)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SHORTEST:
            text = text.replace(part, "***")
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _parse(url: str, number: int) -> Target:
    if not _URL.fullmatch(url):
        raise SettingsError(
            f"--notify number {number}: not a URL; use one that apprise understands, such as mailto://…, "
            "or webhook+https://host/path"
        )
    target = Target(url)
    if target.is_webhook:
        _check_webhook(target, number)
    return target


def _check_webhook(target: Target, number: int) -> None:
    try:
        parts = urlsplit(target.address)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise SettingsError(f"--notify number {number}: use webhook+https://host/path or webhook+http://host:port/path")
