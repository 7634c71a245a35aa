"""Old logs fold on as they did; what is newer than the reader is passed over and counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from services.common.errors import LogFileError
from services.replay.exposition import points
from services.replay.log import logfile
from services.replay.log.logfile import Header, Record, Writer
from services.replay.log.source import from_file
from services.replay.replay import Replay, View
from tests.replay.recording import FOLDER, GOLDEN, NUMBERS, recorded, write

FILES = sorted(FOLDER.glob("golden-v*.log"))
KNOWN: dict[str, dict[str, float]] = json.loads(NUMBERS.read_text())


async def numbers(path: Path) -> dict[str, float]:
    """Every series of a log; a histogram by its count and sum."""
    found = {}
    moment, readings = await Replay(View()).moment(from_file(str(path)))
    for one in points(readings, moment):
        name = f"{one.prometheus}{json.dumps(one.labels, sort_keys=True)}"
        if one.value is not None:
            found[name] = float(one.value)
        else:
            found[f"{name} count"], found[f"{name} sum"] = float(one.count or 0), float(one.sum or 0)
    return found


def test_every_version_of_the_format_has_a_golden_file() -> None:
    versions = [int(found[1]) for file in FILES if (found := re.search(r"v(\d+)", file.name))]
    assert versions == list(range(1, logfile.VERSION + 1))
    assert GOLDEN in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
async def test_a_log_of_every_version_gives_the_numbers_that_it_always_gave(file: Path) -> None:
    found = await numbers(file)
    assert KNOWN[file.name]
    assert {name: found.get(name) for name in KNOWN[file.name]} == KNOWN[file.name]


def test_the_golden_file_is_read_byte_for_byte_and_written_again_the_same(tmp_path: Path) -> None:
    with logfile.reading(str(GOLDEN)) as file:
        found = [record for records in file for record in records]
    assert found == recorded()
    with logfile.reading(str(write(tmp_path / "again.log", found))) as file:
        assert [record for records in file for record in records] == found


async def test_events_of_a_later_version_are_passed_over_and_counted(tmp_path: Path) -> None:
    later = [200, 1.0, {"any": ["thing"]}]
    known = [12, 1.0, 5, 80, "a field of a later version"]
    batches = [["proxy", "h", "shop", "p", n, [later, known, later], b"", "and one of the batch"] for n in (1, 2, 3)]
    replay = await _replayed(tmp_path, [msgspec.msgpack.encode(batch) for batch in batches])
    assert (replay.state.unknown, replay.state.events, replay.state.undecodable) == (6, 3, 0)


async def test_a_batch_of_an_unknown_version_is_passed_over_and_counted(tmp_path: Path) -> None:
    good = msgspec.msgpack.encode(["proxy", "h", "shop", "p", 1, [[12, 1.0, 5, 80]]])
    replay = await _replayed(tmp_path, [b"\x81\xa1v\x02", msgspec.msgpack.encode({"version": 2}), good, b"\xc1" * 100])
    assert (replay.state.undecodable, replay.state.events) == (3, 1)
    assert replay.damage is None


async def test_a_file_of_an_unknown_version_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "later.log"
    with path.open("wb") as file:
        Writer(file, Header(logfile.VERSION + 1)).close()
    with pytest.raises(LogFileError, match="version 2 of the format, but this program reads version 1: use the Long"):
        await numbers(path)


async def _replayed(tmp_path: Path, payloads: list[bytes]) -> Replay:
    log = [Record(n, float(n), "longshore.events.proxy.shop", payload) for n, payload in enumerate(payloads, 1)]
    replay = Replay(View())
    await replay.moment(from_file(str(write(tmp_path / "a.log", log))))
    return replay
