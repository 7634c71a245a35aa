"""Export and import over a real bus: everything, in order, once, however often it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
from pathlib import Path

import msgspec
import pytest

from schemas import codec, subjects
from schemas import events as e
from schemas.codec import Batch
from services.common.bus.connection import Bus
from services.common.errors import BusError, LogFileError
from services.common.jetstream.log_reader import BEGAN, describe, read
from services.common.jetstream.provisioning import ensure_streams
from services.metrics_gateway.projection import Projection
from services.replay.exposition import text
from services.replay.log import logfile
from services.replay.log.dedup import Ranges, SeenBatches
from services.replay.log.exporting import check_range, check_stream, export, filtered, writing
from services.replay.log.importing import STORED, import_log
from services.replay.log.log_range import LogRange, parse_range
from services.replay.log.logfile import Header, Record
from services.replay.log.source import Readable, from_file, from_stream
from services.replay.replay import Replay, View
from tests.replay.recording import recorded, records, write

ALL = LogRange()


async def publish(bus: Bus, log: list[Record]) -> None:
    for record in log:
        await bus.jetstream.publish(record.subject, record.payload)


async def exported(bus: Bus, path: Path, limits: LogRange = ALL, app: str = "", resume: bool = False) -> list[Record]:
    header = Header(logfile.VERSION, (await describe(bus)).created, app)
    with writing(str(path), header, resume) as writer:
        stream = await describe(bus)
        check_range(str(path), writer, limits.first)
        await check_stream(str(path), writer, bus, stream, app)
        log = Readable(from_stream(bus, writer.sequence + 1, created=stream.created), limits.last)
        await export(log, writer, limits.first, app, lambda _: None)
    return contents(path)


def contents(path: Path) -> list[Record]:
    with logfile.reading(str(path)) as file:
        return [record for records in file for record in records]


async def stored(bus: Bus) -> list[tuple[str, bytes]]:
    found = []
    async for entries in read(bus, wait=False):
        found += [(entry.subject, entry.payload) for entry in entries]
    return found


def unique(log: list[Record]) -> list[tuple[str, bytes]]:
    """Subject and payload of each message once."""
    return list(dict.fromkeys((record.subject, record.payload) for record in log))


async def import_(bus: Bus, path: Path) -> tuple[int, int]:
    with logfile.reading(str(path)) as file:
        done = await import_log(file, bus, lambda _: None)
    return done.added, done.known


async def test_an_export_holds_every_message_with_its_sequence_and_time(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, recorded())
    found = await exported(bus, tmp_path / "a.log")
    assert [(one.subject, one.payload) for one in found] == [(one.subject, one.payload) for one in recorded()]
    assert [one.sequence for one in found] == list(range(1, len(found) + 1))
    async for entries in read(bus, wait=False):
        times = {entry.sequence: entry.time for entry in entries}
        assert all(found[sequence - 1].time == time for sequence, time in times.items())


async def test_an_export_goes_on_where_it_was_interrupted(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    await publish(bus, recorded()[:120])
    whole = await exported(bus, path)
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    with pytest.raises(LogFileError):
        contents(path)
    await publish(bus, recorded()[120:])
    again = await exported(bus, path, resume=True)
    assert again[: len(whole)] == whole
    assert [one.payload for one in again] == [one.payload for one in recorded()]
    assert await exported(bus, path, resume=True) == again


async def purged(bus: Bus, last: int) -> None:
    """Leave the stream without its end, as a restored backup does; what is published next takes its numbers."""
    await bus.jetstream.delete_stream(subjects.STREAM)
    await ensure_streams(bus)
    await publish(bus, recorded()[:last])


async def test_a_stream_that_came_back_without_its_end_is_not_exported_into_the_file(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    await publish(bus, recorded()[:100])
    await exported(bus, path)
    before = path.read_bytes()
    reader = await describe(bus)
    await purged(bus, 80)
    same = header_of(before)
    for more in (0, 60):
        await publish(bus, recorded()[100 : 100 + more])
        with pytest.raises(LogFileError, match=r"it has lost its end|a message of sequence 100 that differs"):
            await resumed(bus, path, same)
        assert path.read_bytes() == before
    assert reader.created == same.stream


def header_of(data: bytes) -> Header:
    return logfile.Reader(io.BytesIO(data), "a.log").header


async def resumed(bus: Bus, path: Path, same: Header, app: str = "") -> None:
    """Go on with a file as if the stream, which a test cannot restore, had its time of creation."""
    with writing(str(path), same, True) as writer:
        await check_stream(str(path), writer, bus, await describe(bus), app)
        await export(Readable(from_stream(bus, writer.sequence + 1)), writer, None, app, lambda _: None)


async def test_a_file_of_one_app_is_compared_with_the_stream_as_well(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    await publish(bus, recorded()[:100])
    found = await exported(bus, path, app="shop")
    same = header_of(path.read_bytes())
    await resumed(bus, path, same, "shop")
    assert contents(path) == found
    await purged(bus, 80)
    await publish(bus, recorded()[100:140])
    with pytest.raises(LogFileError, match="ends with a message of sequence 100 that differs"):
        await resumed(bus, path, same, "shop")


async def test_a_stream_that_is_deleted_while_it_is_read_is_no_end_of_the_log(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, recorded())

    async def read_on() -> None:
        async with contextlib.aclosing(from_stream(bus)) as log:
            await anext(log)
            await purged(bus, 5)
            async for _ in log:
                pass

    with pytest.raises(BusError, match="was replaced, or lost its end, while it was read"):
        await read_on()


async def test_a_place_that_leaves_a_hole_in_the_file_is_refused(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    await publish(bus, recorded()[:20])
    await exported(bus, path, parse_range("5", ""))
    await publish(bus, recorded()[20:40])
    before = path.read_bytes()
    with pytest.raises(LogFileError, match="ends with sequence 20, before --from: omit --from"):
        await exported(bus, path, parse_range("22", ""), resume=True)
    assert path.read_bytes() == before
    found = await exported(bus, path, parse_range("5", ""), resume=True)
    assert [one.sequence for one in found] == list(range(5, 41))


@pytest.mark.parametrize(
    ("first", "lost"), [("", 29), ("10", 20), ("30", 0), ("35", 0), ("@99999999999", 0), ("@1", 29)]
)
async def test_only_what_was_asked_for_is_said_to_have_left_the_log(
    bus: Bus, tmp_path: Path, first: str, lost: int
) -> None:
    await publish(bus, recorded()[:40])
    await bus.jetstream.purge_stream(subjects.STREAM, seq=30)
    with writing(str(tmp_path / "a.log"), await header(bus), False) as writer:
        assert (
            await export(Readable(from_stream(bus)), writer, parse_range(first, "").first, "", lambda _: None) == lost
        )


async def test_an_export_from_a_time_has_no_hole_where_the_clock_was_set_back(tmp_path: Path) -> None:
    log = set_back()
    for limits, kept in ((parse_range("@101", ""), log[1:]), (parse_range("@100.5", "@250"), log[1:])):
        path = tmp_path / f"{limits.last}.log"
        with writing(str(path), Header(logfile.VERSION, "s"), False) as writer:
            readable = Readable(from_file(str(write(tmp_path / "in.log", log))), limits.last)
            await export(readable, writer, limits.first, "", lambda _: None)
        assert contents(path) == kept
    readable = Readable(from_file(str(tmp_path / "in.log")), parse_range("", "@102").last)
    assert [one.sequence async for records in readable for one in records] == [1, 2, 3]
    assert (readable.is_cut, readable.behind, readable.end) == (True, 3, 9)


def set_back() -> list[Record]:
    """Messages whose store times go from 100 to 105, and again from 100 to 102."""
    times = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 100.0, 101.0, 102.0]
    return [msgspec.structs.replace(one, time=at) for one, at in zip(records([b"x"] * 9), times, strict=True)]


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e15])
def test_a_record_that_no_stream_can_have_is_damage(tmp_path: Path, time: float) -> None:
    for record in (Record(1, time, "s", b""), Record(1, 1.0, "s", b"", time), Record(-1, 1.0, "s", b"")):
        with pytest.raises(LogFileError, match="a record with an impossible sequence or time"):
            contents(write(tmp_path / "a.log", [record]))


async def test_an_export_that_is_cancelled_can_be_gone_on_with(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    await publish(bus, recorded())
    (first,) = [one async for records in from_stream(bus, last=1) for one in records]
    with contextlib.suppress(asyncio.CancelledError), writing(str(path), await header(bus), False) as writer:
        writer.add(first)
        raise asyncio.CancelledError
    with pytest.raises(LogFileError, match=r"ends after record 1 \(sequence 1\)"):
        contents(path)
    assert len(await exported(bus, path, resume=True)) == len(recorded())


async def header(bus: Bus) -> Header:
    return Header(logfile.VERSION, (await describe(bus)).created)


async def test_an_export_does_not_touch_a_file_that_is_there_or_holds_another_log(bus: Bus, tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", recorded())
    before = path.read_bytes()
    with pytest.raises(LogFileError, match="exists already: continue it with --resume"):
        await exported(bus, path)
    with pytest.raises(LogFileError, match="holds another log"):
        await exported(bus, path, resume=True)
    assert path.read_bytes() == before
    with pytest.raises(LogFileError, match="No such file or directory"):
        await exported(bus, tmp_path / "none" / "a.log")


async def test_a_disk_that_is_full_is_one_line_and_what_was_written_stays_usable(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    noise = [
        Record(n, float(n), "longshore.events.proxy.a", bytes((n * k) % 251 for k in range(999))) for n in range(400)
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(LogFileError, match="File too large; fix that and continue with --resume"):
            _fill(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(LogFileError, match=r"after record \d+0 "):
        contents(path)
    with writing(str(path), Header(logfile.VERSION, "s"), True) as writer:
        assert writer.records > 0
        for record in noise[writer.records :]:
            writer.add(record)
    assert contents(path) == noise


def _fill(path: Path, noise: list[Record]) -> None:
    with writing(str(path), Header(logfile.VERSION, "s"), False) as writer:
        for record in noise:
            writer.add(record)
            if writer.records % 10 == 0:
                writer.flush()


async def test_an_export_has_just_the_span_that_was_asked_for(bus: Bus, tmp_path: Path) -> None:
    await publish(bus, recorded())
    found = await exported(bus, tmp_path / "a.log", parse_range("10", "20"))
    assert [one.sequence for one in found] == list(range(10, 21))
    inside = parse_range(f"@{found[3].time:.6f}", f"@{found[5].time:.6f}")
    again = await exported(bus, tmp_path / "b.log", inside)
    assert set(found[4:5]) <= set(again) <= set(found)


def _batch(app: str, number: int, count: int) -> bytes:
    events: list[e.AnyEvent] = [e.ConnectionAccepted(1.0, n, 80) for n in range(count)]
    return codec.encode(Batch("proxy", "h", app, "p", number, events, b"x" * 32))


async def test_the_export_of_one_app_leaves_no_gap_and_no_event_of_another(bus: Bus, tmp_path: Path) -> None:
    log = records([_batch("shop", 1, 2), _batch("blog", 2, 3), _batch("_", 3, 1), _batch("shop", 4, 4), b"\xc1"])
    await publish(bus, log)
    found = await exported(bus, tmp_path / "a.log", app="shop")
    batches = [codec.decode(one.payload).batch for one in found]
    assert [(one.app, one.sequence, len(one.events), one.previous) for one in batches] == [
        ("shop", 1, 2, b""),
        ("blog", 2, 0, b""),
        ("_", 3, 1, b""),
        ("shop", 4, 4, b""),
    ]
    replay = Replay(View())
    await replay.moment(from_file(str(tmp_path / "a.log")))
    assert (replay.state.missing(), replay.state.chain_breaks, replay.state.events) == (0, 0, 7)


def test_events_of_a_later_version_stay_in_the_export_of_their_app() -> None:
    payload = msgspec.msgpack.encode(["proxy", "h", "shop", "p", 1, [[9999, 1.0, "new"]], b"", "later"])
    kept = filtered(Record(1, 1.0, "longshore.events.proxy.shop", payload), "shop")
    assert kept is not None
    assert codec.decode(kept.payload).unknown == 1


async def test_an_import_appends_every_message_in_order_with_the_time_that_it_had(bus: Bus, tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", recorded())
    expected = unique(recorded())
    assert await import_(bus, path) == (len(expected), len(recorded()) - len(expected))
    assert await stored(bus) == expected
    message = await bus.jetstream.get_msg(subjects.STREAM, 1)
    assert message.headers
    assert float(message.headers[STORED]) == pytest.approx(recorded()[0].time, abs=1e-6)


@pytest.mark.parametrize(("said", "began"), [("7.5", 7.5), ("rubbish", 0.0), ("nan", 0.0), ("inf", 0.0), ("-1", 0.0)])
async def test_when_an_imported_log_began_is_read_from_the_message(bus: Bus, said: str, began: float) -> None:
    payload = codec.encode(Batch("proxy", "h", "shop", "p", 500, []))
    await bus.jetstream.publish("longshore.events.proxy.shop", payload, headers={BEGAN: said})
    (record,) = [one async for records in from_stream(bus) for one in records]
    assert record.began == began
    live = Projection(bus)
    async for entries in read(bus, wait=False):
        for entry in entries:
            live.fold(entry)
    assert live.state.missing() == (0 if began else 499)


async def test_an_import_that_is_said_again_repeats_nothing_also_when_the_bus_has_forgotten_the_ids(
    bus: Bus, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.log", recorded())
    config = (await bus.jetstream.stream_info(subjects.STREAM)).config
    config.duplicate_window = 0.1
    await bus.jetstream.update_stream(config)
    await import_(bus, path)
    before = await stored(bus)
    assert (await import_(bus, path))[0] == 0
    assert await stored(bus) == before


async def test_an_import_of_a_part_is_completed_by_the_whole(bus: Bus, tmp_path: Path) -> None:
    part = write(tmp_path / "part.log", recorded()[:100], whole=False)
    with pytest.raises(LogFileError, match="ends after record 100"):
        await import_(bus, part)
    assert len(await stored(bus)) == len(unique(recorded()[:100]))
    await import_(bus, write(tmp_path / "whole.log", recorded()))
    assert await stored(bus) == unique(recorded())


async def test_parts_that_are_imported_in_the_wrong_order_are_counted_whole(bus: Bus, tmp_path: Path) -> None:
    await import_(bus, write(tmp_path / "late.log", recorded()[100:]))
    await import_(bus, write(tmp_path / "early.log", recorded()[:100]))
    there, whole = Replay(View()), Replay(View())
    await there.moment(from_stream(bus))
    await whole.moment(from_file(str(write(tmp_path / "whole.log", recorded()))))
    assert (there.state.events, there.state.repeated) == (whole.state.events, 0)
    assert there.state.missing() == whole.state.missing()
    connections = [{key: port.connections for key, port in one.state.ports.items()} for one in (there, whole)]
    assert connections[0] == connections[1]


async def test_the_numbers_after_an_import_are_those_of_the_file(bus: Bus, tmp_path: Path) -> None:
    once = [Record(n, 1.0, subject, payload) for n, (subject, payload) in enumerate(unique(recorded()), 1)]
    path = write(tmp_path / "a.log", once)
    await import_(bus, path)
    there, file = Replay(View()), Replay(View())
    _, moved = await there.moment(from_stream(bus))
    _, original = await file.moment(from_file(str(path)))
    assert without_times(text(moved)) == without_times(text(original))


def without_times(text: str) -> list[str]:
    """Without what depends on when the messages were stored, which an import changes."""
    timed = ("state_age", "event_lag", "longshore_unit_silence_seconds{")
    return [line for line in text.splitlines() if not any(name in line for name in timed)]


async def test_a_record_for_no_event_s_subject_is_refused(bus: Bus, tmp_path: Path) -> None:
    for subject in ("$JS.API.STREAM.DELETE.LONGSHORE", "longshore.commands.deployer.a.b", "longshore.events.>", ""):
        path = write(tmp_path / "a.log", [Record(7, 1.0, subject, b"")])
        with pytest.raises(LogFileError, match=r"record 7 has the subject .*, which is not one of events"):
            await import_(bus, path)
    assert await stored(bus) == []


def test_ranges_know_what_they_hold() -> None:
    ranges = Ranges()
    order = [5, 1, 2, 9, 8, 3, 4, 7, 6, 20]
    assert [ranges.add(number) for number in order] == [True] * len(order)
    assert not any(ranges.add(number) for number in order)
    assert (ranges._starts, ranges._ends) == ([1, 20], [9, 20])


def test_what_is_no_batch_is_told_apart_by_its_content() -> None:
    seen = SeenBatches()
    assert seen.add(b"\xc1 one")
    assert seen.add(b"\xc1 two")
    assert seen.add(b"\xc1 one") == ""
    assert seen.add(_batch("shop", 3, 1)) == "p:3"
    assert seen.add(_batch("shop", 3, 2)) == ""
