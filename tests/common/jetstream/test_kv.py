"""Buckets do not grow by what is deleted, and a key costs one round trip."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from nats.js.api import StreamConfig

from schemas import subjects
from schemas.routing import Replica
from services.common.bus import key_value
from services.common.bus.connection import Bus
from services.common.jetstream.provisioning import ensure_streams
from services.common.jetstream.stream_guard import purge_old_markers
from services.common.jetstream.watch import Change, Synced, watch_keys
from tests.support.patience import patience

BUCKET = subjects.REPLICAS
CAME_AND_WENT = 1000


async def messages_in(bus: Bus, bucket: str) -> int:
    return (await bus.jetstream.stream_info(f"KV_{bucket}")).state.messages


async def _come_and_go(bus: Bus, count: int) -> None:
    async def one(number: int) -> None:
        key = subjects.replica_key("here", "web", f"web-1-{number}")
        await bus.put(BUCKET, key, Replica("web", key, "1", "127.0.0.1", 8080))
        await bus.delete(BUCKET, key)

    for start in range(0, count, 50):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 50, count))))


async def _until_at_most(bus: Bus, messages: int) -> None:
    async with asyncio.timeout(patience(60)):
        while await messages_in(bus, BUCKET) > messages:  # noqa: ASYNC110 - the bus is looked at
            await asyncio.sleep(0.1)


async def test_replicas_that_come_and_go_leave_nothing_behind(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_value, "MARKER_TTL", 1.0)
    await bus.put(BUCKET, "here.web.stays", Replica("web", "stays", "1", "127.0.0.1", 8080))
    await _come_and_go(bus, CAME_AND_WENT)
    await _until_at_most(bus, 1)
    assert await bus.get(BUCKET, "here.web.stays")
    assert await bus.get(BUCKET, "here.web.web-1-0") is None


async def test_a_reader_hears_of_a_deletion_and_a_later_one_of_nothing(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_value, "MARKER_TTL", 1.0)
    watch = watch_keys(bus, BUCKET, "here.>")
    async with asyncio.timeout(patience(30)):
        assert await anext(watch) == Synced()
        await bus.put(BUCKET, "here.web.one", Replica("web", "one", "1", "127.0.0.1", 8080))
        first = await anext(watch)
        assert isinstance(first, Change)
        assert first.value is not None
        await bus.delete(BUCKET, "here.web.one")
        assert await anext(watch) == Change("here.web.one", None)
    await watch.aclose()
    await _until_at_most(bus, 0)


async def test_markers_that_an_older_version_left_are_swept_and_young_ones_stay(bus: Bus) -> None:
    bucket = await bus.jetstream.key_value(BUCKET)
    for number in range(20):
        await bucket.put(f"here.web.{number}", b"{}")
        await bucket.delete(f"here.web.{number}")
    await bus.put(BUCKET, "here.web.stays", Replica("web", "stays", "1", "127.0.0.1", 8080))
    await purge_old_markers(bus, age=3600)
    assert await messages_in(bus, BUCKET) == 21
    await purge_old_markers(bus, age=0)
    assert await messages_in(bus, BUCKET) == 1
    assert await bus.get(BUCKET, "here.web.stays")


async def test_a_bucket_of_an_older_server_is_changed_so_that_markers_go_by_themselves(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_value, "MARKER_TTL", 1.0)
    name = f"KV_{BUCKET}"
    config = (await bus.jetstream.stream_info(name)).config
    await bus.jetstream.delete_stream(name)
    older = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    await bus.jetstream.add_stream(StreamConfig(**{**older, "allow_msg_ttl": None, "metadata": None}))
    await _come_and_go(bus, 1)  # works there, too, and leaves a marker for good
    assert await messages_in(bus, BUCKET) == 1
    await ensure_streams(bus)
    assert (await bus.jetstream.stream_info(name)).config.allow_msg_ttl
    bus._buckets.forget()
    await _come_and_go(bus, 5)
    await _until_at_most(bus, 0)  # the former marker had the key of one of these


async def test_a_bucket_that_was_created_anew_is_found_again(bus: Bus) -> None:
    await _come_and_go(bus, 1)
    await bus.jetstream.delete_stream(f"KV_{BUCKET}")
    await ensure_streams(bus)
    await _come_and_go(bus, 1)


async def test_a_key_is_written_in_one_round_trip(bus: Bus) -> None:
    await _come_and_go(bus, 1)
    sent = bus.client.stats["out_msgs"]
    await bus.put(BUCKET, "here.web.one", Replica("web", "one", "1", "127.0.0.1", 8080))
    assert bus.client.stats["out_msgs"] == sent + 1
