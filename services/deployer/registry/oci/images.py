"""The registry `img://…`: releases are tags, or the images that one tag points to."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING

from schemas.routing import Artifact
from services.common.errors import RegistryError
from services.common.text import first_few
from services.deployer.registry.oci import reference
from services.deployer.registry.oci.source import Source

if TYPE_CHECKING:
    from services.deployer.registry.oci.repository import Repository

SHORT = 12


class Images:
    """A repository of images. A poll asks for the tags, or for the digest of the one tag that is followed."""

    def __init__(self, url: str, source: Source) -> None:
        self.url = url
        self._source = source
        self._name = source.reference.name
        self._tag = source.reference.tag
        self._tags: list[str] = []
        self._releases: list[str] = []

    async def offered(self) -> list[str]:
        """Return the tags that are wanted, newest first; for a followed tag, the release that it points to now."""
        if self._tag:
            return [release_of(self._tag, await self._repository.digest(self._tag))]
        tags = await self._repository.tags()
        if tags != self._tags:
            # Tens of thousands take a second: once for each list, and not in the event loop.
            releases = await asyncio.to_thread(self._source.newest_first, tags)
            self._tags, self._releases = tags, releases
        if not self._releases:
            names = first_few(sorted(tag for tag in tags if reference.is_tag(tag))) or "there are none"
            raise RegistryError(f"{self.url}: none of the tags is a {self._source.kind} that is wanted: {names}")
        return [*self._releases]

    async def resolve(self, release: str, known: Artifact | None = None) -> Artifact:
        """Return the release's digest, and the name by which an engine pulls exactly that. A known image is kept."""
        digest = await self._repository.digest(known.digest) if known else await self._digest(release)
        return Artifact(digest, f"{self._name}@{digest}")

    def is_newer(self, release: str, than: str) -> bool:
        """Return True if a release replaces another one that runs."""
        return self._source.is_newer(release, than)

    @cached_property
    def _repository(self) -> Repository:
        # Only a poll loads the HTTP library, not everything that reads the URL.
        from services.deployer.registry.oci.repository import Repository

        return Repository(self._source)

    async def _digest(self, release: str) -> str:
        if self._tag:
            return await self._followed(release)
        if not reference.is_tag(release):
            raise RegistryError(f"{self._name}: {release!r} is not a tag")
        return await self._repository.digest(release)

    async def _followed(self, release: str) -> str:
        """Return the digest of a release of the followed tag, if the tag points to it or the digest is complete."""
        tag, _, digest = release.partition("@")
        if tag == self._tag and reference.is_digest(digest):
            return await self._repository.digest(digest)
        now = await self._repository.digest(self._tag)
        if release != release_of(self._tag, now):
            raise RegistryError(
                f"{self._name}: {self._tag} is {release_of(self._tag, now)} now, not {release}; name an image that the "
                f"tag has left by its whole digest: {self._tag}@sha256:…"
            )
        return now


def release_of(tag: str, digest: str) -> str:
    """Return the name of a tag's image: `latest@sha256:3f2a9c0d1e4b`. It changes with each push of other content."""
    algorithm, _, text = digest.partition(":")
    return f"{tag}@{algorithm}:{text[:SHORT]}"
