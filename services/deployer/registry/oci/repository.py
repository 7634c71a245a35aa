"""One repository of the API: its tags, and their digests."""

from __future__ import annotations

import hashlib

import msgspec

from services.common.errors import RegistryError
from services.deployer.registry.oci import reference
from services.deployer.registry.oci.headers import HeaderError, next_link
from services.deployer.registry.oci.session import Session
from services.deployer.registry.oci.source import Source
from services.deployer.registry.oci.transport import Answer, join

PAGE = 1000

MAX_PAGES = 100
MAX_TAGS = 100_000
MAX_LIST = 16 * 1024 * 1024
"""Bytes of all pages together: so many tags of the greatest length. Their order takes a second to find."""

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


class Repository:
    """A repository. Methods raise RegistryError if the registry does not answer as specified."""

    def __init__(self, source: Source) -> None:
        self._name = source.reference.name
        self._session = Session(source.reference, source.is_plain, source.is_insecure)

    async def tags(self) -> list[str]:
        """Return all tags, page after page."""
        tags: list[str] = []
        asked: set[str] = set()
        size = 0
        target = join(self._session.base, f"tags/list?n={PAGE}")
        while target:
            if target in asked:
                raise RegistryError(
                    f"{self._name}: its list of tags leads back to a page that was read; is it a registry?"
                )
            if len(asked) == MAX_PAGES:
                raise RegistryError(
                    f"{self._name}: its list of tags does not end after {MAX_PAGES} pages; is it a registry?"
                )
            answer = await self._session.ask("GET", target)
            if answer.status == 404:
                raise self._missing(bool(asked))
            size += len(answer.body)
            asked.add(target)
            tags += self._read(answer)
            if size > MAX_LIST or len(tags) > MAX_TAGS:
                raise RegistryError(
                    f"{self._name}: its list of tags is longer than {MAX_TAGS} tags or {MAX_LIST >> 20} MiB: delete "
                    f"old tags, or follow one by img://{self._name}:TAG"
                )
            target = self._next(answer)
        return tags

    async def digest(self, name: str) -> str:
        """Return the digest of the manifest (or index) of a tag or digest.

        By HEAD, which no registry counts as a pull; whatever else than a digest is the answer to that, the manifest
        itself is asked for: registries, and gateways before them, refuse HEAD in many ways.
        """
        head = await self._manifest("HEAD", name)
        if head.status in (401, 429) or "retry-after" in head.headers:
            # These are about the client and not about HEAD: another request makes it worse.
            self._session.checked(head)
        digest: str = head.headers.get("docker-content-digest", "") if head.status == 200 else ""
        if not digest:
            answer = self._session.checked(await self._manifest("GET", name))
            if answer.status == 404:
                raise RegistryError(f"{self._name}: there is no image {name} (404); push it, or deploy another")
            algorithm = name.partition(":")[0] if reference.is_digest(name) else "sha256"
            digest = f"{algorithm}:{hashlib.new(algorithm, answer.body).hexdigest()}"
        if not reference.is_digest(digest):
            raise RegistryError(f"{self._name}: answered {name} with something that is not a digest; is it a registry?")
        if reference.is_digest(name) and digest != name:
            raise RegistryError(f"{self._name}: answered {name} with another image, {digest}; is it a registry?")
        return digest

    async def _manifest(self, method: str, name: str) -> Answer:
        # Not conditional for a digest: its content never changes, so a registry may answer 304 for a deleted image.
        return await self._session.fetch(method, f"manifests/{name}", MANIFESTS, not reference.is_digest(name))

    def _missing(self, is_later_page: bool) -> RegistryError:
        if is_later_page:
            return RegistryError(
                f"{self._name}: the next page of its list of tags is not there (404); is it a registry?"
            )
        return RegistryError(f"{self._name}: no such repository (404); fix --registry, or push an image first")

    def _next(self, answer: Answer) -> str:
        """Return the URL of the page behind an answer; empty: it is the last one."""
        try:
            link = next_link(answer.headers.get_list("link"))
        except HeaderError as error:
            raise RegistryError(
                f"{self._name}: its Link header cannot be read ({error}), so its list of tags may be incomplete"
            ) from None
        return join(answer.url, link) if link else ""

    def _read(self, answer: Answer) -> list[str]:
        try:
            return msgspec.json.decode(answer.body, type=_Tags).tags or []
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise RegistryError(
                f"{self._name}: answered something that is not a list of tags; is it a registry?"
            ) from None
