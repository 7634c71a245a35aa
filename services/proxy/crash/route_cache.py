"""The routes of a proxy on disk: a master that starts while the bus is away serves what the last one served."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from schemas import codec
from schemas.routing import Route
from services.common import log
from services.common.errors import reason
from services.common.files import replace_atomically
from services.common.log import Outage

FRESH = 60.0
"""Seconds after the death of the last master in which its routes are believed: later an address may be another's."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _CachedRoutes(msgspec.Struct):
    boot: str
    routes: list[Route]


class RouteCache:
    """A file; a master that runs keeps touching it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outage = Outage(log.get("proxy"), "cannot keep the routes", path=str(path))

    def load(self) -> list[Route]:
        """The routes of a master that ran until a moment ago, on this host since its boot; else none."""
        try:
            age = time.time() - self._path.stat().st_mtime
            found: _CachedRoutes = codec.value(self._path.read_bytes(), _CachedRoutes)
        except (OSError, msgspec.MsgspecError):
            return []
        return found.routes if abs(age) <= FRESH and found.boot == _boot() else []

    def save(self, routes: Iterable[Route]) -> None:
        """Replace what is there, at once or not at all. A disk that fails is told in one line."""
        try:
            replace_atomically(self._path, msgspec.json.encode(_CachedRoutes(_boot(), list(routes))))
            self._outage.recovered()
        except OSError as error:
            self._outage.failed(reason(error))

    def touch(self) -> None:
        """The master runs."""
        with contextlib.suppress(OSError):
            os.utime(self._path)


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
