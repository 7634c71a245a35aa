"""Disks that are full or read-only, by real mounts: one line, and what was written can be gone on with."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from schemas import subjects
from services.common.bus.connection import Bus
from tests.replay.log.test_file import contents
from tests.replay.recording import GOLDEN
from tests.support.mounts import mounting
from tests.support.nats_server import NatsServer
from tests.support.program import PROGRAM

EXPORT = """\
export LONGSHORE_NATS_URL
mount -t tmpfs -o size=512k none "$DISK"
! longshore export "$DISK/a.log"
cp "$DISK/a.log" "$OUT/cut.log"
! longshore export "$DISK/a.log" --resume
mount -o remount,size=8m "$DISK"
longshore export "$DISK/a.log" --resume
cp "$DISK/a.log" "$OUT/whole.log"
mount -o remount,ro "$DISK"
! longshore export "$DISK/a.log" --resume
! longshore export "$DISK/b.log"
"""
SERIES = """\
mount -t tmpfs -o size=64k none "$DISK"
export TMPDIR="$DISK"
! longshore replay "$FILE" --every 50ms >"$OUT/series"
mount -o remount,size=64m "$DISK"
longshore replay "$FILE" --every 50ms >"$OUT/series"
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {"OUT": str(tmp_path), "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}


async def test_an_export_to_a_full_disk_goes_on_when_there_is_room(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, variables: dict[str, str]
) -> None:
    noise = random.Random(7)
    payloads = [noise.randbytes(8192) for _ in range(100)]
    for payload in payloads:
        await bus.jetstream.publish(subjects.events("proxy", "shop"), payload)
    said = mounting(EXPORT, tmp_path, LONGSHORE_NATS_URL=nats_server.url, **variables).splitlines()
    file = str(tmp_path / "disk" / "a.log")
    full = f"longshore: {file}: No space left on device; fix that and continue with --resume"
    assert said[:2] == [full, full]
    assert said[2].startswith("exported ")
    assert said[3] == f"longshore: {file}: Read-only file system; fix that and continue with --resume"
    assert said[4] == f"longshore: {tmp_path}/disk/b.log: Read-only file system; fix that and continue with --resume"
    assert [one.payload for one in contents(tmp_path / "whole.log")] == payloads


def test_a_series_without_room_for_its_samples_is_one_line(tmp_path: Path, variables: dict[str, str]) -> None:
    said = mounting(SERIES, tmp_path, FILE=str(GOLDEN), **variables).splitlines()
    assert said[0] == (
        "longshore: the temporary file for the samples: database or disk is full: set TMPDIR to a folder with more room"
    )
    assert (tmp_path / "series").read_text().endswith("# EOF\n")


@pytest.mark.parametrize(
    "words",
    [
        ["replay", str(GOLDEN)],
        ["replay", str(GOLDEN), "--until", "1"],
        ["replay", str(GOLDEN), "--format", "json"],
        ["replay", str(GOLDEN), "--every", "5s"],
        ["history", "--file", str(GOLDEN)],
        ["history", "--file", str(GOLDEN), "--json"],
        ["diff", "1.0.0", "1.1.0", "--file", str(GOLDEN)],
        ["verify", str(GOLDEN), "--json"],
    ],
    ids=" ".join,
)
def test_data_that_finds_no_room_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("longshore: ")]
    assert line == "longshore: cannot write the output: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
