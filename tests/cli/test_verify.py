"""`longshore verify` as a user types it, on a running log and on a file."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from schemas import codec, subjects
from schemas import events as e
from schemas.chain import Sealer
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import read
from services.common.jetstream.provisioning import ensure_streams
from services.replay.log.logfile import Record
from tests.replay.log.test_file import without_times
from tests.replay.recording import recorded, records, write
from tests.support.gateway_process import publishing
from tests.support.nats_server import NatsServer
from tests.support.program import fails, longshore


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
    assert b"10 messages, 1 to 10, of 2 processes: no gap, nothing altered\n" in done.stderr
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
    assert said[1] == "gap: batch 3 of proxy on web-1 (p-1) missing"
    assert said[2].startswith("longshore: the log is not whole (hole: 1, gap: 1): see the findings above")


async def test_a_message_that_somebody_altered_or_sent_again_is_told(bus: Bus, nats_server: NatsServer) -> None:
    await fill(bus)
    messages = [entry async for entries in read(bus, wait=False) for entry in entries]
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    for message in [*messages, messages[0]]:
        await bus.jetstream.publish(message.subject, message.payload)
    said = longshore("verify", *bus_of(nats_server)).stderr.decode().splitlines()
    assert said[0] == "repeat: batch 1 of proxy on web-1 (p-1) is there again, at 11"
    assert said[1].endswith("no gap, nothing altered; 1 batches are there twice, unchanged")
    altered = codec.encode(msgspec.structs.replace(codec.decode(messages[3].payload).batch, events=[]))
    await bus.jetstream.publish(messages[3].subject, altered)
    assert "(altered: 1)" in fails("verify", *bus_of(nats_server))


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
    assert fails("verify", file, "--stream", code=2).endswith("give one of them")


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


def test_what_comes_before_the_damage_of_a_file_is_shown(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.log", tmp_path / "cut.log"
    write(whole, recorded()[:200], every=50)
    write(cut, recorded(), every=50)
    cut.write_bytes(cut.read_bytes()[:-200])
    done, expected = longshore("verify", str(cut), code=1), longshore("verify", str(whole), code=1)
    assert done.stdout == expected.stdout
    assert "repeat: " in expected.stderr.decode()
    assert done.stderr.decode().splitlines()[:-1] == expected.stderr.decode().splitlines()[:-1]
    assert "after record 200 (sequence 200)" in done.stderr.decode().splitlines()[-1]


async def test_a_log_without_a_message_proves_nothing(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    assert fails("verify", *bus_of(nats_server)).endswith("the log holds no message: nothing to verify")
    assert fails("verify", str(write(tmp_path / "none.log", []))).endswith("nothing to verify")


async def test_a_message_that_was_deleted_at_the_new_end_is_told(bus: Bus, nats_server: NatsServer) -> None:
    await fill(bus)
    await bus.jetstream.delete_msg(subjects.STREAM, 10)
    said = longshore("verify", *bus_of(nats_server), code=1).stderr.decode().splitlines()
    assert said[0] == "hole: messages 10 to 10 are not in the stream"


def test_a_log_must_go_on_from_the_heads_that_were_kept(tmp_path: Path) -> None:
    log = chained()
    kept, without = tmp_path / "heads.json", [one for one in log if b"p-1" not in one.payload]
    kept.write_bytes(longshore("verify", "--json", str(write(tmp_path / "early.log", log[:6]))).stdout)
    longshore("verify", str(write(tmp_path / "later.log", log)), "--heads", str(kept))
    renumbered = [msgspec.structs.replace(one, sequence=n) for n, one in enumerate(without, 1)]
    forged = str(write(tmp_path / "forged.log", renumbered))
    longshore("verify", forged)
    assert "(removed: 1)" in fails("verify", forged, "--heads", str(kept))
    kept.write_text("{}")
    assert "heads.json: not a list of heads" in fails("verify", forged, "--heads", str(kept))
    kept.write_text("")
    assert "heads.json: no heads in it" in fails("verify", forged, "--heads", str(kept))
    assert "No such file or directory" in fails("verify", forged, "--heads", str(tmp_path / "none"))


def chained() -> list[Record]:
    """The batches of two processes, in turns."""
    sealers = [Sealer("proxy", "web-1", instance) for instance in ("p-1", "p-2")]
    accepted = msgspec.Raw(codec.encode_events([e.ConnectionAccepted(1.0, 1, 8080)]))
    return records([sealer.seal("shop", accepted) for _ in range(5) for sealer in sealers])


async def test_an_import_is_as_whole_as_what_was_exported(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await fill(bus)
    file = str(tmp_path / "all.log")
    longshore("export", file, *bus_of(nats_server))
    rows = longshore("verify", file, "--json").stdout
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    longshore("import", file, *bus_of(nats_server))
    assert heads(longshore("verify", "--json", *bus_of(nats_server)).stdout) == heads(rows)


async def test_an_import_of_a_log_without_its_beginning_is_as_whole_as_what_was_exported(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await fill(bus)
    await bus.jetstream.purge_stream(subjects.STREAM, seq=4)
    file, again = str(tmp_path / "late.log"), str(tmp_path / "again.log")
    longshore("export", file, *bus_of(nats_server))
    rows, numbers = longshore("verify", file, "--json").stdout, longshore("replay", file).stdout.decode()
    assert "longshore_gateway_batches_missing 0" in numbers
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    longshore("import", file, *bus_of(nats_server))
    longshore("export", again, *bus_of(nats_server))
    for words in (bus_of(nats_server), (again,)):
        assert heads(longshore("verify", "--json", *words).stdout) == heads(rows)
    there = longshore("replay", "--stream", *bus_of(nats_server)).stdout.decode()
    assert without_times(there) == without_times(numbers)


async def test_what_is_missing_from_an_import_is_missing_from_the_log_as_well(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await fill(bus)
    await bus.jetstream.purge_stream(subjects.STREAM, seq=2)
    await bus.jetstream.delete_msg(subjects.STREAM, 4)
    file = str(tmp_path / "late.log")
    longshore("export", file, *bus_of(nats_server))
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    longshore("import", file, *bus_of(nats_server))
    assert "(gap: 1)" in fails("verify", *bus_of(nats_server))


def heads(rows: bytes) -> list[dict[str, object]]:
    """What does not depend on the places of the messages."""
    found = [json.loads(line) for line in rows.splitlines()]
    return [{name: value for name, value in one.items() if name not in ("sequence", "time")} for one in found]
