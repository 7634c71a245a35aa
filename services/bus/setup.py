"""`longshore bus setup`: what the bus must hold, created or changed on a nats-server that runs already."""

from __future__ import annotations

import asyncio

from services.bus.permissions import ADMIN
from services.bus.settings import BusSettings
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.errors import SettingsError
from services.common.jetstream.provisioning import ensure_streams, limits
from services.common.jetstream.stream_guard import purge_old_markers


def run(settings: BusSettings) -> None:
    """Return when everything is there, and what is left of deleted keys is gone. Raises LongshoreError."""
    if not settings.nats_url:
        raise SettingsError("--nats-url is missing: the embedded bus sets itself up")
    asyncio.run(_run(settings))


async def _run(settings: BusSettings) -> None:
    wanted = limits(settings)
    bus = await Bus.connect(ADMIN, credentials.find(settings, ADMIN), settings.bus_timeout)
    try:
        await ensure_streams(bus, wanted)
        await purge_old_markers(bus)
    finally:
        await bus.close()
