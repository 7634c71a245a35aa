"""What outlives a worker: its last events in shared memory, its open connections in a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.proxy.crash import blackbox
from services.proxy.crash.blackbox import BlackBox, Entry
from services.proxy.crash.open_connections_file import Open, OpenConnectionsFile, PreviousWorkers, delete

PORTS = {("web", 80), ("api", 81)}


@pytest.fixture
def memory() -> Iterator[int]:
    fd = blackbox.create()
    yield fd
    os.close(fd)


def test_notes_are_there_until_they_are_told(memory: int) -> None:
    box = BlackBox(memory)
    box.append("web", 1, b"one")
    box.append("_", 2, b"two")
    assert list(blackbox.read(memory)) == [Entry("web", 1, b"one"), Entry("_", 2, b"two")]
    box.clear()
    assert list(blackbox.read(memory)) == []
    box.append("web", 3, b"3")
    assert list(blackbox.read(memory)) == [Entry("web", 3, b"3")]


def test_notes_outlive_a_process_that_is_killed(memory: int) -> None:
    code = """if True:
        import os, signal, sys
        from services.proxy.crash.blackbox import BlackBox
        box = BlackBox(int(sys.argv[1]))
        for number in range(1000):
            box.append("web", number, b"x" * number)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", code, str(memory)], pass_fds=[memory])
    assert killed.returncode == -9
    assert [(entry.number, len(entry.event)) for entry in blackbox.read(memory)] == [(n, n) for n in range(1000)]


def test_what_does_not_fit_is_left_out(memory: int) -> None:
    box = BlackBox(memory)
    for number in range(blackbox.SIZE // 1000 + 100):
        box.append("web", number, bytes(1000))
    found = [entry.number for entry in blackbox.read(memory)]
    assert found == list(range(len(found)))
    assert 0.9 * blackbox.SIZE < 1000 * len(found) < blackbox.SIZE


def test_a_master_finds_what_living_workers_of_its_ports_have_open(tmp_path: Path) -> None:
    one, other, foreign = (OpenConnectionsFile(str(tmp_path), name) for name in ("one", "other", "foreign"))
    one.write([Open("web", 80), Open("api", 81)])
    other.write([Open("web", 80, {"a": 3})])
    foreign.write([Open("mail", 25)])
    former = PreviousWorkers(str(tmp_path), PORTS)
    assert sorted(former.poll(), key=str) == sorted(
        [Open("web", 80), Open("api", 81), Open("web", 80, {"a": 3})], key=str
    )
    one.write([Open("web", 80, {"a": 1, "b": 2})])
    other.remove()
    assert former.poll() == [Open("web", 80, {"a": 1, "b": 2})]
    one.write([])
    assert former.poll() == []
    one.remove()
    foreign.remove()
    assert not list(tmp_path.iterdir())


def test_the_file_of_a_dead_worker_is_removed(tmp_path: Path) -> None:
    code = """if True:
        import os, signal, sys
        from services.proxy.crash.open_connections_file import Open, OpenConnectionsFile
        OpenConnectionsFile(sys.argv[1], "dead").write([Open("web", 80, {"a": 1})])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 1
    assert PreviousWorkers(str(tmp_path), PORTS).poll() == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"\x92\x93", b"\x91\x93\xa2\xff\xfe\x50\xc0"])
def test_a_half_written_file_means_what_it_said_before(tmp_path: Path, content: bytes) -> None:
    one = OpenConnectionsFile(str(tmp_path), "one")
    one.write([Open("web", 80, {"a": 1})])
    former = PreviousWorkers(str(tmp_path), PORTS)
    assert former.poll() == [Open("web", 80, {"a": 1})]
    (tmp_path / "one.open").write_bytes(content)
    assert former.poll() == [Open("web", 80, {"a": 1})]
    one.remove()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    OpenConnectionsFile("", "one").write([Open("web", 80)])
    delete("", "one")
    assert PreviousWorkers("", PORTS).poll() == []
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_stops_no_worker(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remains = OpenConnectionsFile(str(tmp_path / "file"), "one")
    remains.write([Open("web", 80)])
    remains.remove()
