"""The bearer tokens: the admin's for everything, and one for /metrics only."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

import msgspec

from services.common import log
from services.common.errors import SettingsError
from services.common.files import create_atomically
from services.metrics_gateway.settings import TOKEN, GatewaySettings

FILE = "admin-token"
_OTHERS = 0o077


class Tokens(msgspec.Struct, frozen=True):
    """The tokens. An empty admin token admits no request; without a metrics token, /metrics needs none."""

    admin: str = ""
    metrics: str = ""

    def is_admin(self, presented: str) -> bool:
        """Return whether this is the admin token."""
        return _same(presented, self.admin)

    def opens_metrics(self, presented: str) -> bool:
        """Return whether this token gives access to /metrics."""
        return _same(presented, self.metrics) or self.is_admin(presented)


def load(settings: GatewaySettings) -> Tokens:
    """Return the tokens of a gateway; the first start creates the admin's. Raises SettingsError for an invalid file."""
    metrics = settings.metrics_token
    if settings.metrics_token_file:
        metrics = _read("--metrics-token-file", Path(settings.metrics_token_file))
    if settings.admin_token_file:
        return Tokens(_read("--admin-token-file", Path(settings.admin_token_file)), metrics)
    return Tokens(_own(Path(settings.state_dir) / FILE), metrics)


def _own(path: Path) -> str:
    """Return the token of a state directory. Without write access there is none: the numbers matter more."""
    try:
        if not path.exists():
            create_atomically(path, f"{secrets.token_urlsafe(32)}\n".encode())
        is_open = bool(path.stat().st_mode & _OTHERS)
    except OSError as error:
        log.get("gateway").warning(
            "no admin token: all commands are refused; name a file with --admin-token-file",
            file=str(path),
            reason=error.strerror,
        )
        return ""
    if is_open:
        log.get("gateway").warning("others can read the admin token: chmod 600 it", file=str(path))
    return _read("--state-dir", path)


def _read(option: str, path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not TOKEN.fullmatch(token):
        raise SettingsError(
            f"{option}: {path} does not hold a token: write one word of letters, digits and . _ ~ + / = - "
            "(remove a generated file to get a new one)"
        )
    return token


def _same(presented: str, token: str) -> bool:
    """Compare in a time that does not reveal how far the tokens agree."""
    return bool(token) and hmac.compare_digest(presented.encode(), token.encode())
