"""The files of an output, as they grow, rotate and are cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.runtime import shim
from services.deployer.runtime.entry import LONGEST_LINE, Entry
from services.deployer.runtime.output import log_file
from services.deployer.runtime.output.log_file import OutputLog
from services.deployer.runtime.replica_dir import ReplicaDirectory


class Printed:
    """A replica's folder, written by the shim's own log with a clock of the test."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, size: int = shim.LOG_SIZE) -> None:
        path.mkdir(exist_ok=True)
        self.folder = ReplicaDirectory(path)
        self.now = 1000
        monkeypatch.setattr(shim, "LOG_SIZE", size)
        monkeypatch.setattr("services.deployer.runtime.shim.time.time_ns", lambda: self.now * 1_000_000_000)
        self.log = shim.Log(str(path))

    def print(self, text: str) -> None:
        self.now += 1
        self.log.write(text.encode())

    def close(self) -> None:
        os.close(self.log.file)
        os.close(self.log.times)


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    return Printed(tmp_path / "web-0", monkeypatch)


def read(log: OutputLog) -> list[Entry]:
    found: list[Entry] = []
    while more := log.read():
        found += more
    return found


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text.decode() for entry in entries]


def test_each_line_has_the_time_at_which_it_was_printed(printed: Printed) -> None:
    printed.print("one\ntwo\nthr")
    printed.print("ee\nfour\r\n\n")
    log = OutputLog(printed.folder)
    assert [(entry.time, entry.text) for entry in read(log)] == [
        (1001, b"one"),
        (1001, b"two"),
        (1001, b"three"),
        (1002, b"four"),
        (1002, b""),
    ]
    log.close()


def test_a_line_without_an_end_comes_when_the_output_is_over(printed: Printed) -> None:
    printed.print("one\ntw")
    log = OutputLog(printed.folder)
    assert texts(read(log)) == ["one"]
    printed.print("o")
    assert read(log) == []
    assert log.rest() == [Entry(1001, b"two")]
    assert log.rest() == []
    log.close()


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 4, 100])
@pytest.mark.parametrize("last", ["", "d"])
def test_the_tail_is_the_last_lines(printed: Printed, tail: int, last: str) -> None:
    printed.print(f"a\nb\nc\n{last}")
    log = OutputLog(printed.folder, tail=tail)
    lines = [line for line in ("a", "b", "c", last) if line]
    assert texts(read(log) + log.rest()) == (lines[-tail:] if tail else [])
    log.close()


def test_since_skips_what_was_printed_before(printed: Printed) -> None:
    for number in range(5):
        printed.print(f"{number}\n")
    for since, first in ((0.0, 0), (1003.0, 2), (1003.5, 3), (2000.0, 5)):
        log = OutputLog(printed.folder, since)
        assert texts(read(log)) == [str(number) for number in range(first, 5)]
        log.close()


def test_a_reader_follows_over_rotations_and_misses_only_what_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = Printed(tmp_path / "small", monkeypatch, 200)
    log, found = OutputLog(printed.folder), list[str]()
    for number in range(200):
        printed.print(f"line {number}\n")
        if number % 3 == 0:
            found += texts(read(log))
    assert found + texts(read(log)) == [f"line {number}" for number in range(200)]
    for number in range(200):
        printed.print(f"more {number}\n")
    late = texts(read(log))
    numbers = [int(line.removeprefix("more ")) for line in late]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, 199)
    assert len(numbers) < 200
    log.close()
    log = OutputLog(printed.folder, tail=20)
    assert texts(read(log)) == [f"more {number}" for number in range(180, 200)]
    log.close()


def test_a_log_that_cannot_rotate_continues_in_its_file_and_rotates_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = Printed(tmp_path / "small", monkeypatch, 100)
    for name in ("output.log.new", "output.times.new"):  # the first or the second cannot be opened
        (printed.folder.path / name).mkdir()
        used = os.listdir("/proc/self/fd")  # noqa: PTH208 # pathlib's would be one more open
        printed.print("x" * 120 + "\n")
        printed.print("y\n")
        assert os.listdir("/proc/self/fd") == used  # noqa: PTH208 # as above
        (printed.folder.path / name).rmdir()
        printed.print("z\n")
    log = OutputLog(printed.folder)
    assert texts(read(log)) == ["x" * 120, "y", "z"] * 2
    log.close()
    assert printed.folder.output.read_text() == "z\n"


def test_a_log_without_a_file_for_its_times_has_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / shim.TIMES).mkdir()
    printed = Printed(tmp_path, monkeypatch)
    printed.print("line\n")
    assert printed.folder.output.read_text() == "line\n"
    printed.close()


def test_a_line_that_a_rotation_cuts_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Printed(tmp_path / "small", monkeypatch, 50)
    printed.print("x" * 60)
    printed.print("y\nz\n")
    log = OutputLog(printed.folder)
    assert texts(read(log)) == ["x" * 60 + "y", "z"]
    log.close()


def test_a_line_that_is_too_long_comes_in_parts(printed: Printed) -> None:
    printed.print("x" * (2 * LONGEST_LINE + 5))
    printed.print("\n" + "y" * (LONGEST_LINE + 1) + "\n")
    log = OutputLog(printed.folder)
    parts = texts(read(log))
    assert [len(part) for part in parts] == [LONGEST_LINE, LONGEST_LINE, 5, LONGEST_LINE, 1]
    log.close()


def test_an_output_without_times_has_that_of_its_file(tmp_path: Path) -> None:
    folder = ReplicaDirectory(tmp_path)
    folder.output.write_bytes(b"old\n")
    os.utime(folder.output, (500, 500))
    log = OutputLog(folder)
    assert read(log) == [Entry(500, b"old")]
    log.close()


def test_what_is_saved_of_a_container_is_read_as_it_was(tmp_path: Path) -> None:
    lines = [Entry(1.5, b"one"), Entry(2.25, b""), Entry(3.0, b"three")]
    log_file.write(ReplicaDirectory(tmp_path), lines)
    log = OutputLog(ReplicaDirectory(tmp_path))
    assert read(log) == lines
    log.close()
    assert oct((tmp_path / "output.log").stat().st_mode)[-3:] == "600"


def test_there_may_be_no_output_at_all(tmp_path: Path) -> None:
    log = OutputLog(ReplicaDirectory(tmp_path), tail=5)
    assert (log.read(), log.rest()) == ([], [])
    log.close()


@settings(max_examples=50)
@given(st.lists(st.text("ab\n", max_size=30), max_size=20), st.integers(-1, 10))
def test_no_line_is_lost_or_doubled_however_it_is_printed(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], tail: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        printed = Printed(tmp_path_factory.mktemp("replica"), monkeypatch, 100_000)
        for piece in pieces:
            printed.print(piece)
        log = OutputLog(printed.folder, tail=tail)
        lines = "".join(pieces).split("\n")
        lines = lines if lines[-1] else lines[:-1]
        assert texts(read(log) + log.rest()) == (lines if tail < 0 else lines[-tail:] if tail else [])
        log.close()
        printed.close()
