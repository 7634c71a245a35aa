"""Answers that are known already, and digests: by HEAD, or by GET where that does not help."""

from __future__ import annotations

import gzip
import hashlib

import pytest

from schemas.routing import Artifact
from services.common.errors import RegistryError
from tests.deployer.registry.oci.hostile import Hostile, Request, reply, tags
from tests.deployer.registry.oci.looking import failure, images

DIGEST = f"sha256:{hashlib.sha256(b'an image').hexdigest()}"


async def test_tags_that_have_not_changed_are_not_sent_again(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        return reply(304) if request.headers.get("if-none-match") == '"a"' else tags("1.0.0", ETag='"a"')

    hostile.answer = answer
    source = images(hostile)
    assert [await source.offered() for _ in range(2)] == [["1.0.0"]] * 2
    hostile.answer = lambda request: tags("1.0.0", "1.1.0", ETag='"b"')
    assert await source.offered() == ["1.1.0", "1.0.0"]
    assert [request.headers.get("if-none-match") for request in hostile.requests] == [None, '"a"', '"a"']


async def test_a_tag_is_followed_by_conditional_heads(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        is_known = request.headers.get("if-none-match") == '"a"'
        return reply(304) if is_known else reply(200, ETag='"a"', Docker_Content_Digest=DIGEST)

    hostile.answer = answer
    source = images(hostile, "team/app:latest")
    assert [await source.offered() for _ in range(3)] == [[f"latest@{DIGEST[:19]}"]] * 3
    assert {request.method for request in hostile.requests} == {"HEAD"}
    accepted = hostile.requests[0].headers["accept"]
    assert "application/vnd.oci.image.index.v1+json" in accepted
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in accepted


async def test_a_registry_that_names_no_digest_has_its_manifest_hashed(hostile: Hostile) -> None:
    hostile.answer = lambda request: reply(200, b"an image" if request.method == "GET" else b"")
    assert (await images(hostile).resolve("1.0.0")).digest == DIGEST


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 418, 500, 501, 503])
async def test_a_registry_that_does_not_do_head_is_asked_by_get(hostile: Hostile, status: int) -> None:
    hostile.answer = lambda request: reply(200, b"an image") if request.method == "GET" else reply(status)
    assert await images(hostile, "team/app:latest").offered() == [f"latest@{DIGEST[:19]}"]
    assert (await images(hostile).resolve("1.0.0")).digest == DIGEST


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, "team/app: there is no image latest (404); push it, or deploy another"),
        (403, "team/app: access denied (403)"),
        (405, "team/app: unexpected status 405"),
        (500, "team/app: the registry fails (500)"),
    ],
)
async def test_what_is_refused_by_get_too_is_an_error(hostile: Hostile, status: int, line: str) -> None:
    hostile.answer = lambda request: reply(status)
    assert line in str(await failure(images(hostile, "team/app:latest")))
    assert [request.method for request in hostile.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("answer", [reply(401), reply(429), reply(503, Retry_After="9"), reply(403, Retry_After="9")])
async def test_a_refusal_that_is_not_about_head_is_not_followed_by_get(hostile: Hostile, answer: bytes) -> None:
    hostile.answer = lambda request: answer
    await failure(images(hostile, "team/app:latest"))
    assert [request.method for request in hostile.requests] == ["HEAD"]


async def test_an_answer_that_is_compressed_is_not_hashed(hostile: Hostile) -> None:
    hostile.answer = lambda request: reply(200, gzip.compress(b"an image"), Content_Encoding="gzip")
    assert "compresses its answer, although it is asked not to" in str(await failure(images(hostile, "app:latest")))


async def test_a_digest_stands_for_nothing_else(hostile: Hostile) -> None:
    other = f"sha256:{'0' * 64}"
    hostile.answer = lambda request: reply(200, b"an image", Docker_Content_Digest=DIGEST)
    assert (await images(hostile).resolve("1.0.0", Artifact(DIGEST, "x"))).digest == DIGEST
    with pytest.raises(RegistryError, match=r"answered sha256:0000.* with another image, sha256:"):
        await images(hostile).resolve("1.0.0", Artifact(other, "x"))


async def test_an_etag_that_is_too_long_is_not_sent_back(hostile: Hostile) -> None:
    hostile.answer = lambda request: tags("1.0.0", ETag=f'"{"a" * 5000}"')
    registry = images(hostile)
    for _ in range(2):
        await registry.offered()
    assert not any("if-none-match" in request.headers for request in hostile.requests)


async def test_a_digest_that_is_none_is_refused(hostile: Hostile) -> None:
    hostile.answer = lambda request: reply(200, Docker_Content_Digest="sha256:../../x")
    with pytest.raises(RegistryError, match="with something that is not a digest"):
        await images(hostile).resolve("1.0.0")
