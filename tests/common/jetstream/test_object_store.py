"""Objects on a real nats-server."""

from __future__ import annotations

import asyncio
import random

import pytest

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.errors import BusError, ObjectError
from services.common.jetstream.object_store import Objects
from tests.support.nats_server import NatsServer
from tests.support.patience import patience

STREAM = f"OBJ_{subjects.SNAPSHOTS}"
META = f"$O.{subjects.SNAPSHOTS}.M.YQ=="
LARGE = random.Random(1).randbytes(700_000)


@pytest.fixture
def objects(bus: Bus) -> Objects:
    return Objects(bus, subjects.SNAPSHOTS)


async def chunks(bus: Bus) -> dict[str, int]:
    """How many chunks are stored, by subject."""
    info = await bus.jetstream.stream_info(STREAM, subjects_filter=f"$O.{subjects.SNAPSHOTS}.C.>")
    return info.state.subjects or {}


@pytest.mark.parametrize("data", [b"", b"x", LARGE])
async def test_an_object_is_read_as_it_was_written(objects: Objects, data: bytes) -> None:
    await objects.put("a", data)
    assert await objects.get("a") == data


async def test_an_object_that_is_missing_or_deleted_is_none(objects: Objects) -> None:
    assert await objects.get("a") is None
    await objects.delete("a")
    await objects.put("a", b"x")
    await objects.delete("a")
    assert await objects.get("a") is None


async def test_only_the_newest_content_of_an_object_is_kept(objects: Objects, bus: Bus) -> None:
    for content in (LARGE, b"second", b"third"):
        await objects.put("a", content)
    assert await objects.get("a") == b"third"
    assert list((await chunks(bus)).values()) == [1]


async def test_a_put_that_is_cut_short_changes_nothing_and_is_swept_up(
    objects: Objects, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects.put("a", b"first")
    publish = bus.jetstream.publish

    async def cut_short(subject: str, *args: object, **kwargs: object) -> object:
        if ".M." in subject:
            raise asyncio.CancelledError
        return await publish(subject, *args, **kwargs)  # type: ignore[arg-type]  # handed through

    with monkeypatch.context() as patch:
        patch.setattr(bus.jetstream, "publish", cut_short)
        with pytest.raises(asyncio.CancelledError):
            await objects.put("a", LARGE)
    assert await objects.get("a") == b"first"
    assert len(await chunks(bus)) == 2
    await objects.sweep()
    assert len(await chunks(bus)) == 2, "it may still be under way"
    await objects.sweep(age=0)
    assert list((await chunks(bus)).values()) == [1]
    assert await objects.get("a") == b"first"


async def test_an_object_without_all_its_chunks_is_told_to_be_damaged(objects: Objects, bus: Bus) -> None:
    await objects.put("a", LARGE)
    (subject,) = await chunks(bus)
    await bus.jetstream.purge_stream(STREAM, subject=subject, keep=2)
    with pytest.raises(ObjectError, match="a chunk is missing"):
        await objects.get("a")


async def test_an_object_with_another_content_is_told_to_be_damaged(objects: Objects, bus: Bus) -> None:
    await objects.put("a", b"x")
    (subject,) = await chunks(bus)
    await bus.jetstream.purge_stream(STREAM, subject=subject)
    await bus.jetstream.publish(subject, b"y")
    with pytest.raises(ObjectError, match="does not have its digest"):
        await objects.get("a")


@pytest.mark.parametrize("rubbish", [b"", b"\xff", b"[]", b'{"nuid": 3}', b'{"nuid": "x", "chunks": "many"}'])
async def test_an_object_with_an_unreadable_meta_message_is_damaged_and_can_be_replaced(
    objects: Objects, bus: Bus, rubbish: bytes
) -> None:
    await objects.put("b", b"other")
    await bus.jetstream.publish(META, rubbish)
    with pytest.raises(ObjectError, match="no meta message"):
        await objects.get("a")
    await objects.sweep(age=0)
    await objects.put("a", b"x")
    assert (await objects.get("a"), await objects.get("b")) == (b"x", b"other")
    await bus.jetstream.publish(META, rubbish)
    await objects.delete("a")
    assert await objects.get("a") is None


async def test_a_bucket_that_is_missing_is_told(bus: Bus) -> None:
    with pytest.raises(BusError, match="cannot read a in nowhere"):
        await Objects(bus, "nowhere").get("a")


async def test_objects_outlive_the_server(objects: Objects, bus: Bus, nats_server: NatsServer) -> None:
    await objects.put("a", LARGE)
    nats_server.kill()
    nats_server.start()
    async with asyncio.timeout(patience(20)):
        await bus.until_lost()
        await bus.until_connected()
        while True:
            try:
                assert await objects.get("a") == LARGE
            except BusError:  # the stream is being read again
                await asyncio.sleep(0.05)
            else:
                return
