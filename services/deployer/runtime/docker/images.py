"""The images of one application on this engine: pulled by digest, and removed when no release needs them any more."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from schemas.routing import Artifact
from services.common import log
from services.common.errors import EngineError, ReleaseError
from services.common.files import replace_atomically
from services.deployer.registry.oci import credentials
from services.deployer.registry.oci.credentials import Credentials
from services.deployer.runtime.docker.engine import Engine, one_line
from services.deployer.runtime.docker.platforms import mismatch


class Images:
    """`memory`: the file that lists the images pulled here, with the time of their last use. No others are removed."""

    def __init__(self, engine: Engine, memory: Path, timeout: float, keep: int) -> None:
        self._engine = engine
        self._memory = memory
        self._timeout = timeout
        self._keep = keep
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._log = log.get("deployer")

    async def need(self, artifact: Artifact) -> dict[str, Any]:
        """Return the engine's description of an image, pulled first if missing. Raises ReleaseError, EngineError.

        An image that is here waits for no other, whatever is pulled or removed meanwhile.
        """
        location, image = artifact.location, None
        lock = self._lock(location)
        if not lock.locked():
            self._touch(location)
            image = await self._find(location)
        if image is None:
            async with lock:
                image = await self._find(location) or await self._bring(location)
        await self._check_platform(image, location)
        return image

    async def holds(self, artifact: Artifact) -> bool:
        """Return True if the image is here. Raises EngineError."""
        return await self._find(artifact.location) is not None

    async def prune(self, needed: Collection[str]) -> None:
        """Remove images that were pulled here, and are neither needed nor in use, but for the last few used."""
        used = self._remembered()
        unused = sorted(used.keys() - set(needed), key=lambda name: used[name], reverse=True)
        for location in unused[self._keep :]:
            async with self._lock(location):
                is_unused = self._remembered().get(location) == used[location]  # and was not needed since
                if is_unused and await self._remove(location):
                    self._remember({name: time for name, time in self._remembered().items() if name != location})

    def _lock(self, location: str) -> asyncio.Lock:
        """Return the lock to hold while an image is pulled or removed."""
        return self._locks.setdefault(location, asyncio.Lock())

    async def _bring(self, location: str) -> dict[str, Any]:
        await self._pull(location)
        image = await self._find(location)
        if image is None:
            raise ReleaseError(f"cannot pull {location}: the engine ended the pull half-way")
        self._remember({**self._remembered(), location: time.time()})
        return image

    def _touch(self, location: str) -> None:
        """Note that an image that was pulled here is used now."""
        if location in (remembered := self._remembered()):
            self._remember({**remembered, location: time.time()})

    async def _find(self, location: str) -> dict[str, Any] | None:
        try:
            image: dict[str, Any] = await self._engine.call_with_retry(lambda client: client.inspect_image(location))
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return image

    async def _pull(self, location: str) -> None:
        search = await credentials.find(location.partition("@")[0], os.environ)
        self._log.info("pulling an image", image=location)
        try:
            async with asyncio.timeout(self._timeout):
                failure = await self._follow(location, login(search.found))
        except TimeoutError:
            failure = f"not done within --pull-timeout {self._timeout:g} s"
        except EngineError as error:
            failure = str(error)
        if failure:
            tried = f" (with the credentials of {search.found.source})" if search.found else ""
            raise ReleaseError(f"cannot pull {location}{tried}: {failure}")

    async def _follow(self, location: str, auth: dict[str, str]) -> str:
        """Wait until a pull ends. Return its error, empty if it succeeded."""
        stream = await self._engine.pull(location, auth, self._timeout)
        try:
            async for progress in stream.objects():
                if error := progress.get("error"):
                    return one_line(str(error))
                self._log.debug("pull", image=location, **_progress_fields(progress))
        finally:
            await stream.close()
        return ""

    async def _check_platform(self, image: Mapping[str, Any], location: str) -> None:
        engine = await self._engine.call_with_retry(lambda client: client.version())
        if problem := mismatch(engine, image):
            raise ReleaseError(f"{location} {problem}")

    async def _remove(self, location: str) -> bool:
        """Remove an image. Return True if it is gone; the engine keeps one that is in use."""
        try:
            await self._engine.call(lambda client: client.remove_image(location, force=False))
        except EngineError as error:
            return error.status == 404
        self._log.info("image removed", image=location)
        return True

    def _remembered(self) -> dict[str, float]:
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=dict[str, float])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _remember(self, images: dict[str, float]) -> None:
        try:
            replace_atomically(self._memory, msgspec.json.encode(images))
        except OSError as error:
            self._log.warning("cannot write down which images were pulled", file=str(self._memory), reason=str(error))


def login(found: Credentials | None) -> dict[str, str]:
    """Return credentials in the form that the engine wants for a pull."""
    if found is None:
        return {}
    pair = {"username": found.username, "password": found.password}
    return {**pair, "identitytoken": found.identity_token} if found.identity_token else pair


def _progress_fields(progress: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(progress[name]) for name in ("id", "status", "progress") if progress.get(name)}
