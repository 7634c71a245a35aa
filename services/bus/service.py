"""`longshore bus`: the embedded bus alone."""

from __future__ import annotations

import asyncio
import signal

from services.bus.server import Server
from services.bus.settings import BusSettings
from services.common import log
from services.common.process.lifecycle import ignore_hangup


def run(settings: BusSettings) -> None:
    """Run the bus until SIGTERM or SIGINT. Raises BusError when it does not start."""
    asyncio.run(_run(settings))


async def _run(settings: BusSettings) -> None:
    server = Server(settings, settings.nats_server)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, ignore_hangup, "bus")
    await server.start()
    log.get("bus").info("ready", state_dir=settings.state_dir, pid=server.pid)
    try:
        await stopping.wait()
    finally:
        await server.stop()
