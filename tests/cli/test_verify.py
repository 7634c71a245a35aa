"""`longshore verify` as a user types it, on a running log and on a file."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from schemas import codec, subjects
from schemas import events as e
from services.common.bus import Bus
from services.common.reader import read
from tests.conftest import NatsServer
from tests.gateway.process import publishing
from tests.replay.program import fails, longshore


def bus_of(server: NatsServer) -> tuple[str, str]:
    return "--nats-url", server.url


async def fill(bus: Bus) -> None:
    for instance in ("p-1", "p-2"):
        async with publishing(bus, "proxy", instance) as proxy:
            for number in range(5):
                proxy.record(e.ConnectionAccepted(1.0, number, 8080), f"app-{number}")


async def test_a_whole_log_is_called_whole_and_its_heads_are_printed(bus: Bus, nats_server: NatsServer) -> None:
    await fill(bus)
    done = longshore("verify", *bus_of(nats_server))
    assert b"10 messages, 1 to 10, of 2 processes: no gap, no repeat, nothing altered" in done.stderr
    rows = longshore("verify", "--stream", "--json", *bus_of(nats_server)).stdout.splitlines()
    found = {one["id"]: one for one in map(json.loads, rows)}
    assert set(found) == {"p-1", "p-2"}
    assert (found["p-1"]["batches"], found["p-1"]["missing"]) == (5, [])
    assert found["p-1"]["head"] in done.stdout.decode()
    assert len(found["p-1"]["head"]) == 64


async def test_a_message_that_somebody_deleted_is_told(bus: Bus, nats_server: NatsServer) -> None:
    await fill(bus)
    await bus.jetstream.delete_msg(subjects.STREAM, 3)
    done = longshore("verify", *bus_of(nats_server), code=1)
    said = done.stderr.decode().splitlines()
    assert said[0] == "hole: messages 3 to 3 are not in the stream"
    assert said[1] == "gap: batch 3 of proxy on web-1 (p-1) not there"
    assert said[2].startswith("longshore: the log is not whole (hole: 1, gap: 1): see above")


async def test_a_message_that_somebody_altered_or_sent_again_is_told(bus: Bus, nats_server: NatsServer) -> None:
    await fill(bus)
    messages = [entry async for entries in read(bus, wait=False) for entry in entries]
    await bus.jetstream.delete_stream(subjects.STREAM)
    await bus.ensure()
    for number, message in enumerate([*messages, messages[0]]):
        payload = message.payload
        if number == 7:
            payload = codec.encode(msgspec.structs.replace(codec.decode(payload).batch, events=[]))
        await bus.jetstream.publish(message.subject, payload)
    line = fails("verify", *bus_of(nats_server))
    assert "(altered: 1, repeat: 1)" in line


async def test_an_export_is_verified_like_the_log(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await fill(bus)
    file, part = str(tmp_path / "all.log"), str(tmp_path / "part.log")
    longshore("export", file, *bus_of(nats_server))
    assert b"10 messages, 1 to 10, of 2 processes" in longshore("verify", file).stderr
    assert (
        b"10 messages" in longshore("verify", "-", stdin=longshore("export", "-", *bus_of(nats_server)).stdout).stderr
    )
    longshore("export", part, "--app", "app-1", *bus_of(nats_server))
    assert fails("verify", part).endswith("holds one application only; verify an export of the whole log")
    assert fails("verify", file, "--stream", code=2).endswith("say one of them")


async def test_a_file_that_was_cut_or_altered_is_one_line(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await fill(bus)
    file = tmp_path / "all.log"
    longshore("export", str(file), *bus_of(nats_server))
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-60], whole[:200], whole[:150] + b"\0" + whole[151:], whole + b"more"):
        file.write_bytes(damaged)
        for words in (["verify"], ["replay"], ["history", "--file"], ["import", *bus_of(nats_server)]):
            done = longshore(*words, str(file), code=1)
            (line,) = [one for one in done.stderr.decode().splitlines() if one.startswith("longshore: ")]
            assert str(file) in line
            assert "Traceback" not in done.stderr.decode()
    assert b"10 messages" in longshore("verify", *bus_of(nats_server)).stderr


async def test_an_import_is_as_whole_as_what_was_exported(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await fill(bus)
    file = str(tmp_path / "all.log")
    longshore("export", file, *bus_of(nats_server))
    rows = longshore("verify", file, "--json").stdout
    await bus.jetstream.delete_stream(subjects.STREAM)
    await bus.ensure()
    longshore("import", file, *bus_of(nats_server))
    assert longshore("verify", "--json", *bus_of(nats_server)).stdout == rows
