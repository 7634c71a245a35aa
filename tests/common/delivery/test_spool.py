"""Parcels on disk: what is stored survives, what another process owns is left alone, what is damaged is set aside."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas import codec, handover
from schemas.chain import SealedBatch
from schemas.codec import Batch
from schemas.events import HealthChanged, ServiceStopped
from services.common.delivery.disk_queue import UNREADABLE, DiskQueue
from services.common.delivery.spool_file import Delivery, OwnedSpoolError, Spool, SpoolError

LIMIT = 1 << 20
OWNER = """
import signal, sys
from pathlib import Path
from services.common.delivery.disk_queue import DiskQueue
from services.common.delivery.spool_file import Delivery
disk_queue = DiskQueue(Path(sys.argv[1]), "health", sys.argv[2], 1 << 20)
disk_queue.write([Delivery("s", f"{sys.argv[2]}:{n}", 1, b"x" * 100) for n in range(50)], [])
print("stored", flush=True)
signal.pause()
"""


def batches(count: int, size: int = 100) -> list[Delivery]:
    return [Delivery("subject", f"i:{n}", 1, bytes([n % 256]) * size) for n in range(1, count + 1)]


def batch(number: int) -> Delivery:
    """A batch of two events of different kinds."""
    change = HealthChanged(1.0, "r", True)
    payload = codec.encode(Batch("health", "host", "_", "i", number, [ServiceStopped(1.0, "x" * 500), change, change]))
    return Delivery("subject", f"i:{number}", 3, payload)


def disk_queue(directory: Path, instance: str, limit: int = LIMIT) -> DiskQueue:
    return DiskQueue(directory, "health", instance, limit)


def ids(found: list[Delivery]) -> list[str]:
    return [batch.message_id for batch in found]


@contextlib.contextmanager
def owner(directory: Path, instance: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has stored 50 batches and lives on."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(directory), instance], stdout=subprocess.PIPE)
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"stored\n"
        yield process
        process.kill()


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_parcels_come_back_in_order_and_go_when_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "health-i.spool")
    stored = batches(10)
    spool.append(stored[:4])
    spool.append(stored[4:])
    assert [(one.message_id, one.payload) for one in spool.oldest(3)] == [
        (one.message_id, one.payload) for one in stored[:3]
    ]
    spool.remove(stored[:5])
    spool.remove(stored[:5])
    assert ids(spool.oldest(99)) == ids(stored[5:])
    assert (spool.batches, spool.events, spool.size) == (5, 5, 500)
    spool.close()


def test_an_empty_spool_leaves_no_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "health-i.spool")
    one = batches(1)
    spool.append(one)
    spool.remove(one)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_killed_with_9_stored_is_taken_over_before_ones_own(tmp_path: Path) -> None:
    with owner(tmp_path, "a"), owner(tmp_path, "b"):
        pass
    mine = disk_queue(tmp_path, "c")
    mine.write(batches(2), [])
    assert mine.adopt() == 100
    found: list[str] = []
    while window := mine.oldest(64):
        found += ids(window)
        mine.sent(window)
    assert found == [f"{who}:{n}" for who in "ab" for n in range(50)] + ["i:1", "i:2"]
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_stored_is_left_alone(tmp_path: Path) -> None:
    with owner(tmp_path, "a"):
        mine = disk_queue(tmp_path, "b")
        assert mine.adopt() == 0
        with pytest.raises(OwnedSpoolError):
            Spool(tmp_path / "health-a.spool")
    assert mine.adopt() == 50
    mine.close()


def test_another_service_s_parcels_are_not_taken_over(tmp_path: Path) -> None:
    other = DiskQueue(tmp_path, "deployer", "a", LIMIT)
    other.write(batches(3), [])
    other.close()
    mine = disk_queue(tmp_path, "b")
    assert mine.adopt() == 0
    mine.close()


def test_when_it_is_full_the_oldest_go_and_are_counted_by_kind(tmp_path: Path) -> None:
    mine = disk_queue(tmp_path, "a", limit=20_000)
    for number in range(1, 101):
        mine.write([batch(number)], [])
    lost = mine.pop_lost()
    left = mine.oldest(1000)
    dropped = 100 - len(left)
    assert 0 < mine.size <= 20_000
    assert lost == {"ServiceStopped": dropped, "HealthChanged": 2 * dropped}
    assert ids(left) == [f"i:{number}" for number in range(dropped + 1, 101)]
    assert mine.pop_lost() == {}
    mine.close()


def test_what_was_left_behind_counts_towards_the_limit(tmp_path: Path) -> None:
    before = disk_queue(tmp_path, "a", limit=20_000)
    before.write([batch(number) for number in range(1, 21)], [])
    before.close()
    mine = disk_queue(tmp_path, "b", limit=20_000)
    mine.adopt()
    for number in range(21, 60):
        mine.write([batch(number)], [])
    assert mine.size <= 20_000
    assert ids(mine.oldest(1000))[-1] == "i:59"
    assert mine.pop_lost().total() > 0
    mine.close()


@pytest.mark.parametrize("content", [b"rubbish" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_with_one_line_and_counted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "health-a.spool").write_bytes(content)
    mine = disk_queue(tmp_path, "b")
    with capture_logs() as lines:
        assert mine.adopt() == 0
        assert mine.adopt() == 0
    (line,) = lines
    assert line["event"] == "a spool is damaged: its events are lost"
    assert Path(line["kept_as"]).read_bytes() == content
    assert mine.pop_lost() == {UNREADABLE: 1}
    mine.write(batches(1), [])
    assert ids(mine.oldest(9)) == ["i:1"]
    mine.close()


def test_a_file_of_another_layout_is_damaged(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "health-a.spool")) as connection:
        connection.execute("CREATE TABLE batches (id INTEGER)")
    mine = disk_queue(tmp_path, "b")
    with capture_logs() as lines:
        assert mine.adopt() == 0
    assert len(lines) == 1
    mine.close()


def test_a_full_disk_keeps_what_is_stored_and_stores_again_when_there_is_room(tmp_path: Path) -> None:
    mine = disk_queue(tmp_path, "a", limit=100 << 20)
    stored = batches(2000, size=1000)
    mine.write(stored[:100], [])
    with full_disk(300_000), pytest.raises(SpoolError, match="health-a"):
        mine.write(stored[100:], [])
    mine.write(stored[100:], [])
    assert ids(mine.oldest(9999)) == ids(stored)
    mine.close()


def test_a_spool_that_has_grown_gives_its_room_back(tmp_path: Path) -> None:
    mine = disk_queue(tmp_path, "a", limit=100 << 20)
    many = batches(300, size=50_000)
    mine.write(many, [])
    mine.write([], many)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0
    mine.write(batches(1), [])
    assert mine.batches == 1
    mine.close()


def test_what_a_worker_left_behind_is_taken_in(tmp_path: Path) -> None:
    left = [SealedBatch("web", f"w:{n}", 1, b"payload") for n in (7, 8)]
    (tmp_path / "health-w.handover").write_bytes(handover.encode(left))
    mine = disk_queue(tmp_path, "b")
    assert mine.adopt() == 2
    assert [(one.subject, one.message_id) for one in mine.oldest(9)] == [
        ("longshore.events.health.web", "w:7"),
        ("longshore.events.health.web", "w:8"),
    ]
    assert mine.adopt() == 0
    mine.close()


NO_TEXT = handover.encode([SealedBatch("shop", "w:8", 1, b"payload")]).replace(b"shop", b"\xe0hop")


@pytest.mark.parametrize("content", [os.urandom(300), NO_TEXT], ids=["random", "a name that is not text"])
def test_what_a_worker_left_behind_damaged_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "health-w.handover").write_bytes(content)
    mine = disk_queue(tmp_path, "b")
    with capture_logs() as lines:
        assert mine.adopt() == 0
    assert len(lines) == 1
    assert mine.pop_lost() == {UNREADABLE: 1}
    mine.close()
