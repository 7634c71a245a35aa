"""Exports and imports that are killed with `kill -9` in the middle of any step, and said again: everything, once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from services.common.bus.connection import Bus
from services.common.errors import LogFileError
from services.replay.log import logfile
from services.replay.log.logfile import Record
from tests.replay.log.test_file import contents, publish, stored, unique
from tests.replay.recording import recorded, write
from tests.support.nats_server import NatsServer
from tests.support.program import DEADLINE, longshore


def killed(step: int, *words: str) -> bool:
    """Whether the program was killed at the step; else it ended well."""
    command = [sys.executable, "-m", "tests.replay.log.mortal", str(step), *words]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode in (-signal.SIGKILL, 0), done.stderr.decode()
    return done.returncode != 0


def readable(path: Path) -> list[Record]:
    """What a file holds before it ends, or is damaged."""
    found: list[Record] = []
    try:
        with logfile.reading(str(path)) as file:
            for records in file:
                found += records
    except LogFileError:
        return found
    raise AssertionError("a file that was cut short is called whole")


async def test_an_export_that_is_killed_at_any_write_is_completed_by_the_next(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await publish(bus, recorded())
    path = tmp_path / "a.log"
    words = ("export", str(path), "--resume", "--nats-url", nats_server.url)
    for step in (1, 1, 2):
        assert killed(step, *words)
        assert readable(path) == []
    before = 0
    while killed(2, *words):
        known = readable(path)
        assert len(known) > before
        assert [one.payload for one in known] == [one.payload for one in recorded()[: len(known)]]
        before = len(known)
    whole = contents(path)
    assert [(one.sequence, one.subject, one.payload) for one in whole] == [
        (number, one.subject, one.payload) for number, one in enumerate(recorded(), 1)
    ]
    assert killed(1, *words)
    assert readable(path) == whole
    longshore(*words)
    assert contents(path) == whole


async def test_an_import_that_is_killed_at_any_message_is_completed_by_the_next(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.log", recorded())
    words = ("import", str(path), "--nats-url", nats_server.url)
    expected = unique(recorded())
    for step, there in ((1, 1), (1, 2), (70, 72), (101, 173)):
        assert killed(step, *words)
        assert await stored(bus) == expected[:there]
    assert f"imported {len(expected) - 173} messages".encode() in longshore(*words).stdout
    assert await stored(bus) == expected
    assert longshore(*words).stdout.startswith(b"imported 0 messages")
    assert await stored(bus) == expected
