"""Settings of the embedded bus."""

from __future__ import annotations

from services.common.config.settings import Settings


class BusSettings(Settings, frozen=True, kw_only=True):
    """`nats_server`: the program to run; empty: the program on PATH if it is new enough, else the bundled one."""

    nats_server: str = ""
