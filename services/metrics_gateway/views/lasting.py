"""What lasts for an application, as /api/status shows it."""

from __future__ import annotations

import msgspec


class PinStatus(msgspec.Struct, frozen=True):
    """The release that stays until a resume, since when, and who chose it."""

    release: str
    since: str | None
    by: str


class RegistryError(msgspec.Struct, frozen=True):
    """The failure of a registry: since when, failures in a row, the last reason."""

    since: str | None
    failures: int
    reason: str
