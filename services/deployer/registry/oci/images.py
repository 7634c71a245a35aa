"""The registry `img://…`: releases are tags, or what one tag stands for."""

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
    """A repository of images. A look asks for the tags, or for the digest of the one tag that is followed."""

    def __init__(self, url: str, source: Source) -> None:
        self.url = url
        self._source = source
        self._name = source.reference.name
        self._tag = source.reference.tag
        self._tags: list[str] = []
        self._releases: list[str] = []

    async def offered(self) -> list[str]:
        """The tags that are wanted, newest first; of a tag that is followed, the one release that it is now."""
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
        """The release's digest, and the name by which an engine pulls exactly that. A known image stays what it is."""
        digest = await self._repository.digest(known.digest) if known else await self._digest(release)
        return Artifact(digest, f"{self._name}@{digest}")

    def is_newer(self, release: str, than: str) -> bool:
        """Whether a release replaces another one that runs."""
        return self._source.is_newer(release, than)

    @cached_property
    def _repository(self) -> Repository:
        # An HTTP library is loaded by who asks a registry, not by everybody who reads its URL.
        from services.deployer.registry.oci.repository import Repository

        return Repository(self._source)

    async def _digest(self, release: str) -> str:
        if self._tag:
            return await self._followed(release)
        if not reference.is_tag(release):
            raise RegistryError(f"{self._name}: {release!r} is not a tag")
        return await self._repository.digest(release)

    async def _followed(self, release: str) -> str:
        """The digest of a release of the followed tag: while the tag stands for it, or when it is named in whole."""
        tag, _, digest = release.partition("@")
        if tag == self._tag and reference.is_digest(digest):
            return await self._repository.digest(digest)
        now = await self._repository.digest(self._tag)
        if release != release_of(self._tag, now):
            raise RegistryError(
                f"{self._name}: {self._tag} is {release_of(self._tag, now)} now, not {release}; an image that the tag "
                f"has left is named by its whole digest: {self._tag}@sha256:…"
            )
        return now


def release_of(tag: str, digest: str) -> str:
    """The name of what a tag stands for: `latest@sha256:3f2a9c0d1e4b`. It changes with every push of other content."""
    algorithm, _, text = digest.partition(":")
    return f"{tag}@{algorithm}:{text[:SHORT]}"
