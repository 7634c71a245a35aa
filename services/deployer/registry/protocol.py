"""What the deployer needs of a registry."""

from __future__ import annotations

from typing import Protocol

from schemas.routing import Artifact


class Registry(Protocol):
    """Where releases come from. Both methods raise RegistryError when it cannot be read."""

    @property
    def url(self) -> str:
        """The registry as messages and events name it, without secrets."""

    async def offered(self) -> list[str]:
        """The names of all releases that may be deployed now, newest first."""

    async def resolve(self, release: str, known: Artifact | None = None) -> Artifact:
        """What the release's name stands for now. Raises RegistryError too when it is not offered.

        `known` is what it stood for when it was deployed before: where that can still be had, it does so again.
        """

    def is_newer(self, release: str, than: str) -> bool:
        """Whether a release comes after another in this registry's own order, by their names alone."""
