"""Lists of tags, page after page."""

from __future__ import annotations

import threading

import msgspec
import pytest
from semver import Version

from services.deployer.registry import versions
from services.deployer.registry.oci import repository, source
from services.deployer.registry.oci.images import Images
from tests.deployer.registry.oci.hostile import Hostile, Request, reply, tags
from tests.deployer.registry.oci.looking import failure, images


async def test_pages_are_followed_by_relative_and_absolute_links(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        match request.query.get("last"):
            case None:
                return tags("1.0.0", Link='</v2/team/app/tags/list?last=a&n=1>; rel="next"')
            case "a":
                absolute = f"<{hostile.url}/v2/team/app/tags/list?last=b>; rel=next"
                return tags("1.2.0", Link=f'<https://elsewhere.invalid/>; rel="first", {absolute}')
            case _:
                return tags("1.1.0", Link='</v2/team/app/tags/list?last=a>; rel="prev"')

    hostile.answer = answer
    assert await images(hostile).offered() == ["1.2.0", "1.1.0", "1.0.0"]


async def test_a_link_without_angle_brackets_is_followed(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        is_second = "last" in request.query
        return tags("2.0.0") if is_second else tags("1.0.0", Link='/v2/team/app/tags/list?last=1.0.0&n=2; rel="next"')

    hostile.answer = answer
    assert await images(hostile).offered() == ["2.0.0", "1.0.0"]


@pytest.mark.parametrize(
    "link", ["<list?last=a", "<list?last=a>", '<list?last=a>; rel=""', "<a> <b>; rel=next", "<" * 8000]
)
async def test_a_link_that_cannot_be_read_is_an_error_and_not_the_end(hostile: Hostile, link: str) -> None:
    hostile.answer = lambda request: tags("1.0.0", Link=link)
    text = str(await failure(images(hostile)))
    assert (
        "team/app: its Link header cannot be read (it is not <URL>; rel=…), so its list of tags may be incomplete"
        in text
    )


@pytest.mark.parametrize("name", ["Link", "WWW_Authenticate"])
async def test_a_header_that_is_too_long_is_not_read(hostile: Hostile, name: str) -> None:
    hostile.answer = lambda request: reply(200 if name == "Link" else 401, '{"tags": []}', **{name: "a" * 50_000})
    assert "cannot be read" in (text := str(await failure(images(hostile))))
    assert "(it has 50000 characters, more than 16384)" in text


async def test_pages_without_end_are_an_error(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "MAX_PAGES", 5)
    hostile.answer = lambda request: tags("1.0.0", Link=f'<list?last={len(hostile.requests)}>; rel="next"')
    assert "its list of tags does not end after 5 pages" in str(await failure(images(hostile)))
    assert len(hostile.requests) == 5


async def test_pages_that_lead_in_a_circle_are_an_error_at_once(hostile: Hostile) -> None:
    hostile.answer = lambda request: tags("1.0.0", Link='<list?again>; rel="next"')
    assert "its list of tags leads back to a page that was read" in str(await failure(images(hostile)))
    assert len(hostile.requests) == 2


async def test_pages_that_are_too_big_together_are_an_error(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "MAX_LIST", 1 << 20)
    padding = "x" * 400_000
    hostile.answer = lambda request: tags(padding, Link=f'<list?last={len(hostile.requests)}>; rel="next"')
    assert "its list of tags is longer than 100000 tags or 1 MiB: delete old tags, or follow one by" in str(
        await failure(images(hostile))
    )
    assert len(hostile.requests) == 3


async def test_more_tags_than_can_be_ordered_soon_are_an_error(
    hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "MAX_TAGS", 3)
    hostile.answer = lambda request: tags("1.0.0", "1.0.1", "1.0.2")
    assert await images(hostile).offered() == ["1.0.2", "1.0.1", "1.0.0"]
    hostile.answer = lambda request: tags("1.0.0", "1.0.1", "1.0.2", "1.0.3")
    assert "its list of tags is longer than 3 tags or 16 MiB" in str(await failure(images(hostile)))


async def test_a_page_that_is_not_there_is_no_missing_repository(hostile: Hostile) -> None:
    def answer(request: Request) -> bytes:
        return reply(404) if "last" in request.query else tags("1.0.0", Link="<list?last=1.0.0>; rel=next")

    hostile.answer = answer
    assert "the next page of its list of tags is not there (404)" in str(await failure(images(hostile)))


async def test_a_list_of_tags_is_parsed_once_and_not_in_the_event_loop(hostile: Hostile) -> None:
    parsed: list[str] = []
    threads: set[int] = set()

    def counting(name: str) -> Version | None:
        parsed.append(name)
        threads.add(threading.get_ident())
        return versions.parse(name)

    where = source.parse(f"{hostile.host}/team/app?constraint=>=1")
    registry = Images("img://a", msgspec.structs.replace(where, parse=counting))
    hostile.answer = lambda request: tags("1.0.0", "1.1.0", "latest", "1.0.0")
    for _ in range(3):
        assert await registry.offered() == ["1.1.0", "1.0.0"]
    assert sorted(parsed) == ["1.0.0", "1.1.0", "latest"]
    hostile.answer = lambda request: tags("1.0.0", "1.2.0")
    assert await registry.offered() == ["1.2.0", "1.0.0"]
    assert len(parsed) == 5
    assert threading.get_ident() not in threads


async def test_a_page_on_another_host_is_read_without_credentials(
    hostile: Hostile, elsewhere: Hostile, credentials: str
) -> None:
    def answer(request: Request) -> bytes:
        if request.headers.get("authorization") != credentials:
            return reply(401, WWW_Authenticate='Basic realm="a test"')
        return tags("1.0.0", Link=f'<{elsewhere.url}/more>; rel="next"')

    hostile.answer = answer
    elsewhere.answer = lambda request: tags("1.1.0")
    assert await images(hostile).offered() == ["1.1.0", "1.0.0"]
    elsewhere.answer = lambda request: reply(401, WWW_Authenticate='Basic realm="give me"')
    assert "access denied (401)" in str(await failure(images(hostile)))
    assert not any("authorization" in request.headers for request in elsewhere.requests)
