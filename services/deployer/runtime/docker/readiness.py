"""The readiness of containers without a health path: health sees only that the engine accepts for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from services.deployer.runtime.docker.listen_probe import Place, problem
from services.deployer.runtime.docker.watch import Watched
from services.deployer.settings import DeployerSettings

UNASKED = "has not answered yet"
START_INTERVAL = 0.1
"""Seconds between two probes of a container that does not answer: it should take traffic as soon as it can."""


class Readiness:
    """Probes each container of `watched` that has a place, and calls `changed` when an answer changes."""

    def __init__(self, settings: DeployerSettings, watched: Mapping[str, Watched], changed: Callable[[], None]) -> None:
        self.is_wanted = settings.dial == "host" and not settings.health_path
        self._settings = settings
        self._watched = watched
        self._changed = changed

    def expect(self, watched: Watched, place: Place) -> None:
        """Probe a container at this place from now on: it runs, for the first time or again."""
        watched.place, watched.silence = place, UNASKED

    async def follow(self, watched: Watched) -> None:
        """Probe until the container ends: often while it does not answer, else as often as health probes."""
        misses = 0
        while watched.id in self._watched:
            misses = misses + 1 if await self.ask(watched, is_patient=misses + 1 < self._settings.fall) else 0
            await asyncio.sleep(START_INTERVAL if watched.silence else self._settings.probe_interval)

    async def ask(self, watched: Watched, is_patient: bool = False) -> str:
        """Return why a container does not answer, empty if it does.

        `is_patient`: a failure of a container that has answered so far does not count yet.
        """
        place = watched.place
        if place is None:
            return ""
        said = await problem(place, self._settings.probe_timeout)
        is_spared = is_patient and said and not watched.silence
        if watched.place is place and said != watched.silence and not is_spared:
            watched.silence = said
            self._changed()
        return said
