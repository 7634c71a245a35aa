"""Signals that end containers."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from services.common import log
from services.common.errors import EngineError
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.watch import Watched

KILL_INTERVAL = 5.0
"""Seconds between two tries to send a signal. Each try waits for the engine up to RETRY_TIMEOUT seconds by itself."""


class Stopper:
    """Drains and stops containers. `watched`: those that have not ended yet; nothing is sent to another."""

    def __init__(self, containers: Containers, watched: Container[str]) -> None:
        self._containers = containers
        self._watched = watched
        self._log = log.get("deployer")

    async def drain(self, watched: Watched, signal: str) -> None:
        """Take the restart policy back, then send the drain signal."""
        try:
            await self._containers.keep_down(watched.id)
        except EngineError as error:  # then the restarted container is stopped
            self._log.warning("cannot take back a restart policy", container=watched.id, reason=str(error))
        await self._kill(watched, signal)

    async def stop(self, watched: Watched, timeout: float) -> None:
        """Send the stop signal, and SIGKILL after `timeout` seconds."""
        await self._kill(watched, watched.state.stop_signal)
        await asyncio.sleep(timeout)
        await self._kill(watched, "SIGKILL")

    async def _kill(self, watched: Watched, signal: str) -> None:
        """Send a signal, and retry until the engine takes it: no container stays because the engine was away."""
        logged = ""
        while watched.id in self._watched:
            try:
                await self._containers.kill(watched.id, signal)
                return
            except EngineError as error:
                if logged != str(error):
                    logged = str(error)
                    self._log.error("cannot stop a container, retrying", container=watched.id, reason=logged)
            await asyncio.sleep(KILL_INTERVAL)
