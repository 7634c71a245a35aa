"""The commands and samples of docs/replay.md work as they are printed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
import subprocess
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.common.bus.connection import Bus
from services.metrics_gateway.state.state import HISTOGRAMS
from services.replay.log import logfile
from tests.replay.log.test_file import publish, unique
from tests.replay.recording import GOLDEN, recorded, write
from tests.support.nats_server import NatsServer
from tests.support.program import PROGRAM

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced samples of a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


async def test_every_command_works_as_it_is_printed(bus: Bus, nats_server: NatsServer, tmp_path: Path) -> None:
    await publish(bus, recorded())
    environment = {
        **os.environ,
        "LONGSHORE_NATS_URL": nats_server.url,
        "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    for command in commands():
        if command.startswith("longshore import"):
            await bus.jetstream.purge_stream("LONGSHORE")
        done = await asyncio.to_thread(
            subprocess.run, ["sh", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"
    assert (await bus.jetstream.stream_info("LONGSHORE")).state.messages == len(unique(recorded()))
    assert any((tmp_path / "blocks").iterdir())
    assert len(commands()) == 13


def test_the_test_of_the_page_passes_as_it_is_printed(tmp_path: Path) -> None:
    (test,) = blocks("python")
    (tmp_path / "test_page.py").write_text(test)
    shutil.copy(GOLDEN, tmp_path / "web-1.log")
    words = [str(Path(PROGRAM).with_name("python")), "-m", "pytest", "-q", "--rootdir=.", "-p", "no:cacheprovider"]
    done = subprocess.run([*words, "."], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def by_the_page(data: bytes) -> list[list[Any]]:
    """The records of a log file, read by what the page says of the format and nothing else."""
    place, records, kinds = 8, [], []
    assert data[:place] == bytes.fromhex("89 4c 53 4c 4f 47 0d 0a")
    while place < len(data):
        kind, length, checksum = struct.unpack(">cII", data[place : place + 9])
        body = data[place + 9 : place + 9 + length]
        assert length <= 64 << 20
        assert zlib.crc32(data[place : place + 5] + body) == checksum
        kinds.append(kind)
        if kind == b"H":
            version, _stream, app = msgspec.msgpack.decode(body)
            assert (version, app) == (1, "")
        elif kind == b"R":
            records += msgspec.msgpack.decode(zlib.decompress(body))
        else:
            count, digest = msgspec.msgpack.decode(body)
            assert (count, digest) == (len(records), sha256(data[:place]).digest())
        place += 9 + length
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == (b"H", b"F", {b"R"})
    return records


def test_a_file_can_be_read_by_what_the_page_says(tmp_path: Path) -> None:
    expected = [[one.sequence, one.time, one.subject, one.payload] for one in recorded()]
    assert by_the_page(GOLDEN.read_bytes()) == expected
    imported = [msgspec.structs.replace(one, began=7.5) for one in recorded()]
    new = write(tmp_path / "new.log", imported).read_bytes()
    assert by_the_page(new) == [[*one, 7.5] for one in expected]


def test_the_numbers_of_the_format_are_those_of_the_code() -> None:
    assert logfile.MAGIC.hex(" ") in PAGE
    assert f"Version {logfile.VERSION}." in PAGE
    assert f"after {logfile.FRAME >> 10} KiB" in PAGE
    assert f"at most {logfile.LARGEST >> 20} MiB" in PAGE
    fields = {kind: ", ".join(kind.__struct_fields__) for kind in (logfile.Header, logfile.Record, logfile.Footer)}
    assert all(f"`[{names}]`" in PAGE for names in fields.values())


def test_every_metric_of_the_page_exists() -> None:
    assert set(re.findall(r"--buckets (dewy[a-z.]+)=", PAGE)) <= set(HISTOGRAMS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", PAGE))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
