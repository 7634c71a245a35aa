"""Log files: what was written is read, damage is told with its place, and what comes before it stays usable."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import LogFileError
from services.replay.log import logfile
from services.replay.log.logfile import Header, Reader, Record, Writer

LOG = Header(logfile.VERSION, "2026-01-01T00:00:00+00:00", "shop")
RECORDS = [Record(n, 1_700_000_000 + n / 8, f"longshore.events.proxy.{n}", bytes([n]) * n) for n in range(1, 200)]

records = st.lists(
    st.builds(Record, st.integers(1, 2**63), st.floats(0, 1e11), st.text(max_size=20), st.binary(max_size=50))
)


def written(records: list[Record], every: int = 10, whole: bool = True) -> bytes:
    """A file whose frames hold so many records."""
    file = io.BytesIO()
    writer = Writer(file, LOG)
    for number, record in enumerate(records, 1):
        writer.add(record)
        if number % every == 0:
            writer.flush()
    if whole:
        writer.close()
    return file.getvalue()


def starts(whole: bytes) -> list[int]:
    """Where each frame begins: the header, those of records, the footer."""
    found, place = [], len(logfile.MAGIC)
    while place < len(whole):
        found.append(place)
        place += 9 + int.from_bytes(whole[place + 1 : place + 5])
    return found


def read(data: bytes) -> tuple[list[Record], str]:
    """What can be read, and what is said about the rest."""
    found: list[Record] = []
    try:
        for frame in Reader(io.BytesIO(data), "a.log"):
            found += frame
    except LogFileError as error:
        return found, str(error)
    return found, ""


@given(records, st.integers(1, 5))
def test_what_was_written_is_read(records: list[Record], every: int) -> None:
    assert read(written(records, every)) == (records, "")


def test_a_file_says_of_which_log_it_is_and_how_much_it_holds() -> None:
    reader = Reader(io.BytesIO(written(RECORDS)), "a.log")
    assert sum(map(len, reader)) == 199
    assert (reader.header, reader.records, reader.last and reader.last.sequence) == (LOG, 199, 199)
    assert reader.footer is not None


@pytest.mark.parametrize("length", range(0, 4000, 97))
def test_a_file_that_was_cut_gives_what_comes_before_and_says_where_it_ends(length: int) -> None:
    data = written(RECORDS)
    found, problem = read(data[: -1 - length % len(data)])
    assert found == RECORDS[: len(found)]
    assert problem.startswith("a.log: ")
    assert "\n" not in problem


def test_a_cut_between_two_frames_is_told_as_an_end_before_the_last_frame() -> None:
    found, problem = read(written(RECORDS[:20], whole=False))
    assert found == RECORDS[:20]
    assert "ends after record 20 (sequence 20) without its last frame" in problem


@given(st.data())
def test_a_changed_byte_is_noticed_and_what_comes_before_it_stays_usable(data: st.DataObject) -> None:
    whole = bytearray(written(RECORDS[:60]))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    try:
        found, problem = read(bytes(whole))
    except LogFileError as error:  # of the header
        found, problem = [], str(error)
    assert problem
    assert "\n" not in problem
    assert found == RECORDS[: len(found)]


def test_damage_is_told_with_the_last_good_record() -> None:
    whole = written(RECORDS[:30])
    second = starts(whole)[2]
    found, problem = read(whole[: second + 20] + b"?" + whole[second + 21 :])
    assert found == RECORDS[:10]
    assert f"damaged at byte {second}, after record 10 (sequence 10): wrong checksum" in problem


def test_a_frame_that_was_taken_out_or_repeated_is_noticed_at_the_end() -> None:
    whole = written(RECORDS[:20])
    _, first, second, _ = starts(whole)
    for changed in (whole[:first] + whole[second:], whole[:second] + whole[first:second] + whole[second:]):
        assert "the last frame is for other records" in read(changed)[1]


def test_something_after_the_end_is_damage() -> None:
    assert "something follows the last frame" in read(written(RECORDS) + b"x")[1]


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, logfile.MAGIC[:5], b"hello"])
def test_what_is_no_log_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(LogFileError, match=r"a\.log: not a log file"):
        Reader(io.BytesIO(data), "a.log")


def test_a_version_that_is_not_known_is_named() -> None:
    data = logfile.MAGIC + logfile._framed(logfile.HEADER, msgspec.msgpack.encode([2, {"another": "layout"}]))
    with pytest.raises(LogFileError, match="version 2 of the format, but this program reads version 1"):
        Reader(io.BytesIO(data), "a.log")


def test_a_field_that_a_later_program_appends_to_the_header_is_passed_over() -> None:
    body = msgspec.msgpack.encode([logfile.VERSION, "made", "shop", "new"])
    reader = Reader(io.BytesIO(logfile.MAGIC + logfile._framed(logfile.HEADER, body)), "a.log")
    assert reader.header == Header(logfile.VERSION, "made", "shop")


def test_an_interrupted_file_is_gone_on_with() -> None:
    file = io.BytesIO(written(RECORDS[:50], whole=False) + b"half a frame")
    reader = Reader(file, "a.log")
    with pytest.raises(LogFileError):
        list(reader)
    file.seek(reader.offset)
    file.truncate()
    writer = Writer.after(reader, file)
    for record in RECORDS[50:]:
        writer.add(record)
    writer.close()
    assert read(file.getvalue()) == (RECORDS, "")


def test_a_frame_that_claims_to_be_huge_takes_no_memory() -> None:
    huge = logfile._PREFIX.pack(logfile.RECORDS, 2**32 - 1, 0)
    assert "wrong checksum" in read(written([], whole=False) + huge + b"x" * 100)[1]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match="No such file"), logfile.reading(str(tmp_path / "none")):
        pass
