"""The registry `img://…`: releases are tags, or what one tag stands for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from schemas.routing import Artifact
from services.common.errors import RegistryError
from services.deployer.registry.oci import headers, reference
from services.deployer.registry.oci.source import Source

if TYPE_CHECKING:
    from services.deployer.registry.oci.client import Client
    from services.deployer.registry.oci.transport import Answer

PAGE = 1000
MAX_PAGES = 100
SHORT = 12

MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Images:
    """A repository of images. A look is a request for the tags, or a HEAD for the digest of the tag that is followed."""

    def __init__(self, url: str, source: Source) -> None:
        self.url = url
        self._source = source
        self._name = source.reference.name
        self._tag = source.reference.tag
        self._connected: Client | None = None

    async def offered(self) -> list[str]:
        """The tags that are wanted, newest first; or, of a tag that is followed, the one release that it is now."""
        if self._tag:
            return [release_of(self._tag, await self._digest(self._tag))]
        tags = await self._tags()
        releases = self._source.newest_first(tags)
        if not releases:
            raise RegistryError(f"{self.url}: none of the tags is a {self._source.kind} that is wanted: {_some(tags)}")
        return releases

    async def resolve(self, release: str) -> Artifact:
        """The release's digest, and the name by which an engine pulls exactly that."""
        digest = await (self._followed(release) if self._tag else self._digest(release))
        return Artifact(digest, f"{self._name}@{digest}")

    def is_newer(self, release: str, than: str) -> bool:
        """Whether one release comes after another in this registry's order."""
        return self._source.is_newer(release, than)

    @property
    def _client(self) -> Client:
        if self._connected is None:
            # An HTTP library is loaded by those who ask a registry, not by all who read its URL.
            from services.deployer.registry.oci.client import Client

            self._connected = Client(self._source.reference, self._source.is_plain, self._source.is_insecure)
        return self._connected

    async def _followed(self, release: str) -> str:
        """The digest of a release of the followed tag: as long as the tag stands for it, or named in whole."""
        tag, _, digest = release.partition("@")
        if tag == self._tag and reference.is_digest(digest):
            return await self._digest(digest)
        now = await self._digest(self._tag)
        if release != release_of(self._tag, now):
            raise RegistryError(
                f"{self._name}: {self._tag} is {release_of(self._tag, now)} now, not {release}; an image that it "
                f"has left is named by its whole digest: {self._tag}@sha256:…"
            )
        return now

    async def _tags(self) -> list[str]:
        tags: list[str] = []
        target = f"tags/list?n={PAGE}"
        for _ in range(MAX_PAGES):
            answer = await self._client.ask("GET", target)
            if answer.status == 404:
                raise RegistryError(f"{self._name}: no such repository (404); mend --registry, or push an image first")
            tags += self._read(answer)
            link = headers.next_link(answer.headers.get_list("link"))
            if not link:
                return tags
            target = _join(answer.url, link)
        raise RegistryError(f"{self._name}: its list of tags does not end after {MAX_PAGES} pages: no registry?")

    def _read(self, answer: Answer) -> list[str]:
        try:
            return msgspec.json.decode(answer.body, type=_Tags).tags or []
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise RegistryError(f"{self._name}: answered something that is no list of tags: no registry?") from None

    async def _digest(self, name: str) -> str:
        """The digest of a tag's manifest, by HEAD: that costs no pull. Only a registry that names none is asked twice."""
        if not reference.is_tag(name) and not reference.is_digest(name):
            raise RegistryError(f"{self._name}: {name!r} is not a tag")
        digest = (await self._manifest("HEAD", name)).headers.get("docker-content-digest", "")
        if not digest:
            answer = await self._manifest("GET", name)
            digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if not reference.is_digest(digest):
            raise RegistryError(f"{self._name}: answered {name} with something that is no digest: no registry?")
        return digest

    async def _manifest(self, method: str, name: str) -> Answer:
        answer = await self._client.ask(method, f"manifests/{name}", MANIFESTS)
        if answer.status == 404:
            raise RegistryError(f"{self._name}: there is no image {name} (404); push it, or deploy another")
        return answer


def release_of(tag: str, digest: str) -> str:
    """The name of what a tag stands for: `latest@sha256:3f2a9c0d1e4b`. It changes with every push of other content."""
    algorithm, _, text = digest.partition(":")
    return f"{tag}@{algorithm}:{text[:SHORT]}"


def _join(base: str, link: str) -> str:
    from services.deployer.registry.oci.transport import join

    return join(base, link)


def _some(tags: list[str]) -> str:
    shown = ", ".join(tag for tag in tags[:5] if reference.is_tag(tag)) or "none"
    return f"{shown} and {len(tags) - 5} more" if len(tags) > 5 else shown
