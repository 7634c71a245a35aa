"""The interface of a registry."""

from __future__ import annotations

from typing import Protocol

from schemas.routing import Artifact


class Registry(Protocol):
    """A source of releases. Both coroutines raise RegistryError if it cannot be read."""

    @property
    def url(self) -> str:
        """The registry as messages and events name it, without secrets."""

    async def offered(self) -> list[str]:
        """Return the names of all releases that may be deployed now, newest first."""

    async def resolve(self, release: str, known: Artifact | None = None) -> Artifact:
        """Return the artifact that the release's name stands for now. Raises RegistryError too if it is not offered.

        `known`: the artifact when it was deployed before; where that is still available, it is returned again.
        """

    def is_newer(self, release: str, than: str) -> bool:
        """Return True if a release comes after another in this registry's own order, by their names alone."""
