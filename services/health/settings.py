"""Options of the health service. How a replica is checked is part of the replica (schemas.routing.Check)."""

from __future__ import annotations

from services.common.config.settings import Settings
from services.common.errors import SettingsError


class HealthSettings(Settings, frozen=True, kw_only=True):
    """`concurrency`: how many probes may be under way at once."""

    concurrency: int = 64

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise SettingsError(f"--concurrency {self.concurrency}: use 1 or more probes at once")
