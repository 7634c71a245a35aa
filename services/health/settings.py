"""Options of the health service. The check of a replica is part of the replica (schemas.routing.Check)."""

from __future__ import annotations

from typing import Annotated

from services.common.config.option import Option
from services.common.config.settings import Settings
from services.common.errors import SettingsError


class HealthSettings(Settings, frozen=True, kw_only=True):
    """`concurrency`: how many probes may run at the same time."""

    concurrency: Annotated[int, Option("Probes that may run at the same time.", "Bus and host")] = 64

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise SettingsError(f"--concurrency {self.concurrency}: use 1 or more probes at once")
