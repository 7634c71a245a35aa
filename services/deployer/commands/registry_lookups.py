"""The commands that wait for the registry. Each has a time limit, and an abort ends all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from services.common.errors import RegistryError


class _Lookup(msgspec.Struct, eq=False):
    """One command that waits. `aborted_by`: the actor that aborted it, empty if it runs out of time by itself."""

    limit: asyncio.Timeout
    aborted_by: str = ""


class RegistryLookups:
    """The lookups under way at the registry with this URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lookups: list[_Lookup] = []

    @contextlib.asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """Ask the registry inside. Raises RegistryError if that takes longer, or is aborted."""
        lookup = _Lookup(asyncio.timeout(seconds))
        self._lookups.append(lookup)
        try:
            async with lookup.limit:
                yield
        except TimeoutError:
            late = f"no answer from {self._url} within {seconds:g} s: is it up?"
            raise RegistryError(f"aborted by {lookup.aborted_by}" if lookup.aborted_by else late) from None
        finally:
            self._lookups.remove(lookup)

    def abort(self, by: str) -> bool:
        """End all lookups. Return False if there are none."""
        for lookup in self._lookups:
            lookup.aborted_by = by
            lookup.limit.reschedule(asyncio.get_running_loop().time())
        return bool(self._lookups)
