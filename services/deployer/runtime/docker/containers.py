"""The engine's API for single containers. All methods raise EngineError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import EngineError
from services.deployer.runtime.docker.engine import Engine

GRACE = 5.0
"""Seconds that a container that was stopped by hand has to start again, as in `docker restart`.

The engine does not say which of the two it does. Between both steps it takes down and sets up the container's
network, which takes a second or more on a busy host. A container that stays stopped is replaced that much later.
"""


class Containers:
    """Containers by name: our names are unique, and outlive every id that we may have forgotten."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return all containers with these labels by name. One that is just being removed may have no name any more."""
        chosen = {"label": [f"{name}={value}" for name, value in labels.items()]}
        found: list[dict[str, Any]] = await self._engine.call_with_retry(
            lambda client: client.containers(all=True, filters=chosen)
        )
        return {one["Names"][0].removeprefix("/"): one for one in found if one["Names"]}

    async def create(self, name: str, body: dict[str, Any]) -> None:
        """Create a container."""
        await self._engine.call_with_retry(lambda client: client.create_container_from_config(body, name))

    async def start(self, name: str) -> None:
        """Start a container."""
        await self._engine.call_with_retry(lambda client: client.start(name))

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """Return the engine's description of a container, None if there is no such container."""
        try:
            found: dict[str, Any] = await self._engine.call_with_retry(lambda client: client.inspect_container(name))
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def kill(self, name: str, signal: str) -> None:
        """Send a signal. A container that waits for its next start cannot take one, and is removed instead."""
        try:
            await self._engine.call_with_retry(lambda client: client.kill(name, signal))
        except EngineError as error:
            if error.status != 409:
                raise
            await self.remove(name)

    async def keep_down(self, name: str) -> None:
        """Set the restart policy to none, so that the engine does not restart the container when it ends."""
        container = await self.inspect(name)
        policy = ((container or {}).get("HostConfig") or {}).get("RestartPolicy") or {}
        if policy.get("Name") not in (None, "", "no"):
            never = {"Name": "no"}
            await self._engine.call_with_retry(lambda client: client.update_container(name, restart_policy=never))

    async def remove(self, name: str) -> None:
        """Remove a container with its anonymous volumes, if it still exists."""
        try:
            await self._engine.call_with_retry(lambda client: client.remove_container(name, v=True, force=True))
        except EngineError as error:
            if error.status not in (404, 409):  # 409: its removal has begun already
                raise

    async def stats(self, name: str) -> dict[str, Any]:
        """Return the engine's statistics of a container, of this moment alone: without `one_shot` it waits for two."""
        found: dict[str, Any] = await self._engine.call(lambda client: client.stats(name, stream=False, one_shot=True))
        return found
