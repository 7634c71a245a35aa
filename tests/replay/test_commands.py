"""The commands, as a user types them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.common.bus.connection import Bus
from tests.metrics_gateway.recording import START
from tests.replay.log.test_file import publish, stored, unique
from tests.replay.recording import GOLDEN, recorded, write
from tests.replay.test_series import AGE, NOT_OF_THE_LOG, folded
from tests.support.gateway_process import Gateway, Launch
from tests.support.nats_server import NatsServer
from tests.support.patience import patience
from tests.support.program import PROGRAM, fails, longshore


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(write(tmp_path / "recorded.log", recorded()))


async def test_replay_prints_what_the_gateway_showed(launch: Launch, bus: Bus, nats_server: NatsServer) -> None:
    await publish(bus, recorded()[:100])
    gateway = launch()
    await gateway.until_ready()
    position, shown = await showed(gateway, 100)
    await publish(bus, recorded()[100:])
    done = longshore("replay", "--stream", "--until", str(position), "--nats-url", nats_server.url)
    assert samples(done.stdout.decode()) == samples(shown)
    assert f", sequence {position}: " in done.stderr.decode()


async def showed(gateway: Gateway, least: int) -> tuple[int, str]:
    """The text of /metrics when so many messages at least were folded, and how many they were."""
    async with asyncio.timeout(patience(60)):
        while True:
            before = await folded(gateway)
            text = (await gateway.get("/metrics")).text
            if least <= before == await folded(gateway):
                return before, text


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample that tells of the log, but for the age of the newest message."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if not one.name.startswith((*NOT_OF_THE_LOG, AGE, "target_info"))
    }


def test_replay_says_of_which_moment_the_numbers_are(file: str) -> None:
    done = longshore("replay", file, "--until", "100")
    assert b"as of 2023-11-14T22:13:30.000+00:00, sequence 100" in done.stderr


def test_places_beyond_the_end_of_the_log_are_said(file: str) -> None:
    said = longshore("replay", file, "--until", "20261121").stderr.decode().splitlines()
    assert said[0] == "as of 2023-11-14T22:13:41.300+00:00, sequence 213: 2640 events"
    assert "the log ends with sequence 213, before --until 20261121 (a date has dashes)" in said
    assert (
        "the log ends with sequence 213, before --from 300"
        in longshore("replay", file, "--from", "300").stderr.decode()
    )
    later = longshore("replay", file, "--from", "2026-11-21").stderr.decode()
    assert "the log ends at 2023-11-14T22:13:41.300+00:00, before --from" in later


def test_a_clock_that_jumped_is_said(tmp_path: Path) -> None:
    times = [0.0, START, START + 60, START + 30, START + 90]
    log = [msgspec.structs.replace(one, time=at) for one, at in zip(recorded(), times, strict=False)]
    file = str(write(tmp_path / "jumped.log", log))
    done = longshore("replay", file, "--every", "15s")
    assert (
        "nothing was stored from 1970-01-01T00:00:00.000+00:00 to 2023-11-14T22:13:20.000+00:00" in done.stderr.decode()
    )
    assert "1 messages were stored before the time of a sample that was written" in done.stderr.decode()
    cut = longshore("replay", file, "--until", f"@{START + 40:.0f}").stderr.decode()
    assert ", sequence 2: " in cut
    assert "1 messages that were stored before --until come later in the log" in cut


def test_replay_reads_standard_input(file: str) -> None:
    assert longshore("replay", "-", stdin=Path(file).read_bytes()).stdout == longshore("replay", file).stdout


def test_replay_prints_json_with_other_buckets(file: str) -> None:
    done = longshore(
        "replay", file, "--format", "json", "--app", "shop", "--buckets", "dewy.proxy.connect.latency=0.0001,0.001"
    )
    points = [json.loads(line) for line in done.stdout.splitlines()]
    (latency,) = [one for one in points if one["metric"] == "dewy.proxy.connect.latency"]
    assert list(latency["buckets"]) == ["0.0001", "0.001", "+Inf"]
    assert latency["buckets"]["+Inf"] == latency["count"] > 0
    assert latency["labels"] == {"proxy_port": "8080", "app": "shop", "host": "web-1"}
    assert {one["labels"]["app"] for one in points} == {"shop"}


def test_replay_prints_openmetrics_of_a_moment_and_of_many(file: str) -> None:
    single = longshore("replay", file, "--format", "openmetrics").stdout.decode().splitlines()
    assert single[-1] == "# EOF"
    assert all(line.startswith("#") or line.endswith(" 1700000021.300") for line in single)
    many = longshore("replay", file, "--every", "10s").stdout.decode().splitlines()
    assert many[-1] == "# EOF"
    assert {line.split()[-1] for line in many if not line.startswith("#")} == {
        "1700000010.000",
        "1700000020.000",
        "1700000030.000",
    }


def test_what_the_numbers_do_not_show_is_said_beside_them(file: str) -> None:
    said = longshore("replay", file).stderr.decode()
    assert "skipped 1 events of kinds that this version does not know" in said
    assert "skipped 1 messages that are not batches of events, or of an unknown version" in said


def test_a_damaged_file_gives_what_comes_before_and_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", recorded(), every=50)
    path.write_bytes(path.read_bytes()[:-200])
    done = longshore("replay", str(path), code=1)
    assert done.stdout == longshore("replay", GOLDEN.as_posix(), "--until", "200").stdout
    assert done.stderr.decode().splitlines()[-1].startswith(f"longshore: {path}: damaged at byte ")
    assert "after record 200 (sequence 200)" in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ["--until", "soon"],
            2,
            "--until 'soon': use a sequence (1200), a time (2026-11-21T14:05:00Z) or unix seconds",
        ),
        (["--every", "often"], 2, "--every 'often': use a duration such as"),
        (["--every", "15s", "--format", "json"], 2, "--every writes OpenMetrics; omit --format json"),
        (["--buckets", "latency=1"], 2, "--buckets latency: no histogram has this name; there are"),
        (["--buckets", "dewy.proxy.connect.latency=2,1"], 2, "put the bounds in rising order"),
        (["--stream"], 2, "give one of them"),
        (["--from", "9", "--until", "3"], 2, "--from 9 is after --until 3: swap them"),
    ],
)
def test_a_mistake_is_one_line(file: str, words: list[str], code: int, line: str) -> None:
    assert line in fails("replay", file, *words, code=code)


def test_what_is_no_log_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert longshore("replay", str(tmp_path / "text"), code=1).stdout == b""
    for words in (["replay"], ["import"], ["history", "--file"], ["diff", "1", "2", "--file"]):
        assert "not a log file: write one with `longshore export`" in fails(*words, str(tmp_path / "text"))
        assert "No such file or directory" in fails(*words, str(tmp_path / "none"))


async def test_a_log_moves_from_one_bus_to_another(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await publish(bus, recorded())
    path = str(tmp_path / "moved.log")
    said = longshore("export", path, "--nats-url", nats_server.url).stderr.decode()
    assert f"exported {len(recorded())} messages" in said
    assert "exists already" in fails("export", path, "--nats-url", nats_server.url)
    assert "exported 0 messages" in longshore("export", path, "--resume", "--nats-url", nats_server.url).stderr.decode()
    await bus.jetstream.purge_stream("LONGSHORE")
    count = len(unique(recorded()))
    done = json.loads(longshore("import", path, "--json", "--nats-url", nats_server.url).stdout)
    assert done == {"added": count, "known": len(recorded()) - count}
    assert longshore("import", path, "--nats-url", nats_server.url).stdout.startswith(b"imported 0 messages")
    assert await stored(bus) == unique(recorded())
    there = longshore("replay", "--stream", "--app", "shop", "--nats-url", nats_server.url).stdout
    assert there == longshore("replay", path, "--app", "shop").stdout


async def test_an_export_to_standard_output_is_a_log_file(bus: Bus, nats_server: NatsServer) -> None:
    await publish(bus, recorded()[:20])
    done = longshore("export", "-", "--nats-url", nats_server.url)
    assert b"sequence 20: " in longshore("replay", "-", stdin=done.stdout).stderr


def test_without_a_bus_there_is_one_line(tmp_path: Path) -> None:
    for words in (["replay"], ["export", str(tmp_path / "a.log")], ["history"], ["diff", "1", "2"]):
        assert "no bus in" in fails(*words, "--state-dir", str(tmp_path))
    assert "no bus in" in fails("import", str(GOLDEN), "--state-dir", str(tmp_path))


def test_a_reader_that_goes_away_ends_it_quietly(file: str) -> None:
    with subprocess.Popen([PROGRAM, "replay", file], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        said = process.stderr.read().decode()
    assert "Traceback" not in said


@pytest.mark.parametrize("verb", ["history", "diff", "verify", "replay", "export", "events"])
async def test_a_reader_says_that_the_log_begins_later(
    verb: str, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await publish(bus, recorded())
    await bus.jetstream.purge_stream("LONGSHORE", seq=3)
    words = {"replay": ["--stream"], "export": [str(tmp_path / "late.log")], "diff": ["1.0.0", "1.1.0"]}.get(verb, [])
    said = _said(verb, *words, "--nats-url", nats_server.url)
    says = "2 messages left the log before" if verb == "export" else "the log begins with sequence 3"
    assert says in said


async def test_events_from_a_place_that_is_there_are_shown_without_a_word(bus: Bus, nats_server: NatsServer) -> None:
    await publish(bus, recorded())
    await bus.jetstream.purge_stream("LONGSHORE", seq=3)
    assert _said("events", "--start", "3", "--nats-url", nats_server.url) == ""
    assert "the log begins with sequence 3" in _said("events", "--start", "2", "--nats-url", nats_server.url)


def _said(*words: str) -> str:
    """What a command says beside its result, however it ends: the recorded log is not whole."""
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False).stderr
