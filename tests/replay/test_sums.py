"""A replay of a log that has lost its beginning goes on from what the gateway saved, wherever that is possible."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import structlog

from schemas import subjects
from services.bus.permissions import ACCESS, ADMIN, permissions
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import describe
from services.common.jetstream.object_store import Objects
from services.common.jetstream.provisioning import ensure_streams
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.snapshots.snapshot import encode
from services.metrics_gateway.snapshots.store import SLOTS, Store
from services.metrics_gateway.state.state import State
from services.replay.log.source import from_stream
from tests.replay.log.test_file import publish, without_times
from tests.replay.recording import recorded
from tests.support.configured_server import connected, serving
from tests.support.nats_server import NatsServer
from tests.support.program import longshore

SAVED = (90, 120, 150)
LEFT = 100
"""The first message that is still in the log."""


async def fold(bus: Bus, last: int) -> State:
    state = State()
    async for records in from_stream(bus, last=last):
        for record in records:
            apply(state, record.sequence, record.time, record.payload)
    return state


@pytest.fixture
async def late(bus: Bus) -> Bus:
    """A log that begins late, with the snapshots that gateways left."""
    await publish(bus, recorded())
    store = Store(Objects(bus, subjects.SNAPSHOTS), structlog.get_logger())
    created = (await describe(bus)).created
    for position in SAVED:
        await store.save(encode(await fold(bus, position), created))
    return bus


def replayed(server: NatsServer, *words: str) -> tuple[list[str], str]:
    done = longshore("replay", "--stream", *words, "--nats-url", server.url)
    return without_times(done.stdout.decode()), done.stderr.decode()


@pytest.mark.parametrize("words", [(), ("--until", "150"), ("--until", "130"), ("--from", "151"), ("--app", "shop")])
async def test_the_numbers_are_those_of_the_whole_log(
    late: Bus, nats_server: NatsServer, words: tuple[str, ...]
) -> None:
    whole, said = replayed(nats_server, *words)
    assert "snapshot" not in said
    await late.jetstream.purge_stream(subjects.STREAM, seq=LEFT)
    found, said = replayed(nats_server, *words)
    assert found == whole
    position = 120 if words == ("--until", "130") else 150
    assert f"these numbers include older messages: they start from the snapshot at sequence {position}" in said
    assert "the log begins" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("--until", "119"),
        ("--from", "120"),
        ("--every", "1s"),
        ("--buckets", "dewy.proxy.connect.latency=0.001,0.01"),
    ],
)
async def test_what_a_snapshot_cannot_tell_is_counted_from_what_is_left(
    late: Bus, nats_server: NatsServer, words: tuple[str, ...]
) -> None:
    await late.jetstream.purge_stream(subjects.STREAM, seq=LEFT)
    _, said = replayed(nats_server, *words)
    assert "snapshot" not in said
    assert f"the log begins with sequence {LEFT}: these numbers lack the older messages" in said


async def test_a_snapshot_before_a_hole_in_the_log_is_not_gone_on_from(late: Bus, nats_server: NatsServer) -> None:
    await late.jetstream.purge_stream(subjects.STREAM, seq=152)
    _, said = replayed(nats_server)
    assert "the log begins with sequence 152" in said


async def test_a_snapshot_of_another_log_is_not_gone_on_from(late: Bus, nats_server: NatsServer) -> None:
    await late.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(late)
    await publish(late, recorded())
    await late.jetstream.purge_stream(subjects.STREAM, seq=LEFT)
    _, said = replayed(nats_server)
    assert f"the log begins with sequence {LEFT}" in said


async def test_damaged_snapshots_are_told_and_the_rest_is_counted(late: Bus, nats_server: NatsServer) -> None:
    await late.jetstream.purge_stream(subjects.STREAM, seq=LEFT)
    for slot in SLOTS:
        await Objects(late, subjects.SNAPSHOTS).put(slot, b"rubbish")
    _, said = replayed(nats_server)
    assert len(re.findall("snapshot not used", said)) == len(SLOTS)
    assert f"the log begins with sequence {LEFT}" in said


async def test_an_account_that_may_not_read_snapshots_is_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    older = msgspec.structs.replace(ACCESS["cli"], reads_stores=())
    admin = {"user": ADMIN, "password": "a"}
    reader = {"user": "cli", "password": "c", "permissions": permissions("cli", older)}
    with serving(tmp_path / "nats", f"authorization {{ users: {json.dumps([admin, reader])} }}") as server:
        address = server.url.removeprefix("nats://")
        bus = await connected(ADMIN, nats_url=[f"nats://admin:a@{address}"])
        await ensure_streams(bus)
        await publish(bus, recorded())
        await bus.jetstream.purge_stream(subjects.STREAM, seq=LEFT)
        await bus.close()
        done = longshore("replay", "--stream", "--nats-url", f"nats://cli:c@{address}")
    said = done.stderr.decode()
    assert "cannot read the snapshots" in said
    assert "give it what `longshore bus config` prints" in said
    assert f"the log begins with sequence {LEFT}" in said
