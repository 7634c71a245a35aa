"""A time series of a log: strict OpenMetrics, which a real Prometheus loads, and answers from as if it had scraped."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import groupby
from math import isnan
from pathlib import Path

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as scraped_families

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.common.bus.connection import Bus
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.replay.exposition import Series, text
from services.replay.log import logfile
from services.replay.log.exporting import export, writing
from services.replay.log.log_range import LogPosition, LogRange
from services.replay.log.logfile import Header, Record
from services.replay.log.source import Readable, from_file, from_stream
from services.replay.replay import Replay, View
from tests.metrics_gateway.recording import START
from tests.replay.prometheus import Answers, load, prometheus
from tests.replay.recording import recorded
from tests.support.gateway_process import Gateway, Launch, publishing

EVERY = 0.25
parsed: Callable[[str], Iterator[Metric]] = text_string_to_metric_families
NOT_OF_THE_LOG = [one.prometheus for one in INSTRUMENTS if one.of_process]
AGE = "longshore_gateway_state_age_seconds"


async def log(records: list[Record]) -> AsyncIterator[list[Record]]:
    for start in range(0, len(records), 50):
        yield records[start : start + 50]


async def written(view: View, source: AsyncIterator[list[Record]], every: float) -> str:
    out = io.StringIO()
    with Series() as series:
        async for moment, readings in Replay(view).series(source, every):
            series.add(readings, moment)
        series.write(out.write)
    return out.getvalue()


async def moments(span: LogRange, every: float) -> list[float]:
    return [moment async for moment, _ in Replay(View(span)).series(log(recorded()), every)]


async def test_it_is_openmetrics_to_the_letter() -> None:
    found = await written(View(), log(recorded()), 2.0)
    families = {family.name: family for family in parsed(without_histograms(found))}
    totals = families["dewy_proxy_connections"].samples
    assert families["dewy_proxy_connections"].type == "counter"
    assert [sample.value for sample in totals] == sorted(sample.value for sample in totals)
    assert len({float(sample.timestamp or 0) for sample in totals}) == len(totals) == 11


async def test_every_series_is_in_one_piece_and_goes_forward_in_time() -> None:
    found = (await written(View(), log(recorded()), 2.0)).splitlines()
    assert found.pop() == "# EOF"
    heads = [line.split()[2] for line in found if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) > 5
    metrics = [line.rsplit(" ", 2) for line in found if not line.startswith("#")]
    pieces = [name for name, _ in groupby(metric_of(one) for one, *_ in metrics)]
    assert len(pieces) == len(set(pieces))
    for _, samples in groupby(sorted((name, float(stamp)) for name, _, stamp in metrics), key=lambda one: one[0]):
        stamps = [stamp for _, stamp in samples]
        assert stamps == sorted(set(stamps))
    assert max(float(stamp) for *_, stamp in metrics) == START + 22


def metric_of(series: str) -> str:
    """To which a sample belongs: a histogram has many series."""
    without_bound = re.sub(r'(?<=\{)le="[^"]*",|,?le="[^"]*"', "", series).replace("{}", "")
    return re.sub(r"_(bucket|count|sum)(?=\{|$)", "", without_bound)


def without_histograms(text: str) -> str:
    """The library's parser takes a histogram's second point for a repetition of its first."""
    kept, is_histogram = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("# HELP"):
            is_histogram = f"# TYPE {line.split()[2]} histogram" in text
        if line == "# EOF\n" or not is_histogram:
            kept.append(line)
    return "".join(kept)


@pytest.mark.parametrize(
    ("span", "every", "first", "last"),
    [
        (LogRange(), 5.0, 5.0, 25.0),
        (LogRange(last=LogPosition(time=START + 12)), 5.0, 5.0, 10.0),
        (LogRange(last=LogPosition(time=START + 10)), 5.0, 5.0, 10.0),
        (LogRange(first=LogPosition(time=START + 3)), 5.0, 3.0, 23.0),
        (LogRange(LogPosition(time=START + 3), LogPosition(time=START + 9)), 2.0, 3.0, 9.0),
        (LogRange(last=LogPosition(sequence=100)), 5.0, 5.0, 10.0),
        (LogRange(first=LogPosition(sequence=101)), 5.0, 15.0, 25.0),
        (LogRange(last=LogPosition(time=START + 1000)), 5.0, 5.0, 25.0),
    ],
)
async def test_the_moments_are_those_that_were_asked_for(
    span: LogRange, every: float, first: float, last: float
) -> None:
    found = await moments(span, every)
    steps = round((last - first) / every)
    assert found == [START + first + n * every for n in range(steps + 1)]


def jumped(*times: float) -> list[Record]:
    """The first messages of the recorded log, stored at these times."""
    return [msgspec.structs.replace(one, time=at) for one, at in zip(recorded(), times, strict=False)]


async def replayed(found: list[Record], every: float) -> tuple[Replay, list[float]]:
    replay = Replay(View())
    return replay, [moment async for moment, _ in replay.series(log(found), every)]


async def test_a_clock_that_is_set_from_1970_to_now_makes_no_samples_in_between() -> None:
    replay, found = await replayed(jumped(10.0, 40.0, START, START + 30.0), 15.0)
    assert (
        found
        == [15.0, 30.0, 45.0, *(moment for moment in (START - 5 + n * 15 for n in range(9)) if moment >= START)][
            : len(found)
        ]
    )
    assert len(found) == 6
    assert replay.gaps == [(45.0, START)]


async def test_a_bus_that_was_away_for_a_day_has_the_samples_of_a_scrape() -> None:
    replay, found = await replayed(jumped(START, START + 86_400.0), 15.0)
    assert len(found) == 86_400 // 15 + 1
    assert replay.gaps == []


async def test_a_clock_that_was_set_back_writes_no_sample_twice_and_is_told() -> None:
    replay, found = await replayed(jumped(START, START + 60.0, START + 5.0, START + 10.0, START + 90.0), 15.0)
    assert found == sorted(set(found))
    assert replay.belated == 2


async def test_a_gauge_that_is_gone_has_one_last_sample_of_zero() -> None:
    told: list[tuple[float, e.AnyEvent]] = [
        (1.0, e.ReplicaStarted(START, "d", "r-1", release="1.0", address="a:1", pid=7, slot=0, duration=0.5)),
        (6.0, e.ReplicaRetired(START, "d", "r-1", reason="replaced", duration=1.0)),
        (20.0, e.ReplicaStarted(START, "d", "r-2", release="1.0", address="a:1", pid=7, slot=0, duration=0.5)),
    ]
    found = [
        Record(
            n,
            START + at,
            "longshore.events.deployer.shop",
            codec.encode(Batch("deployer", "h", "shop", "d", n, [said])),
        )
        for n, (at, said) in enumerate(told, 1)
    ]
    lines = (await written(View(), log(found), 5.0)).splitlines()
    running = [
        line.split()[-2:]
        for line in lines
        if line.startswith("dewy_container_status") and 'container="r-1"' in line and 'state="running"' in line
    ]
    assert [(value, float(moment) - START) for value, moment in running] == [("1.0", 5.0), ("0.0", 10.0)]
    exits = [line for line in lines if line.startswith("dewy_container_started") and 'container="r-1"' in line]
    assert [line.split()[-2] for line in exits[1:]] == ["NaN"]


async def test_a_span_without_messages_has_no_moment() -> None:
    assert await moments(LogRange(first=LogPosition(sequence=1000)), 5.0) == []
    assert await moments(LogRange(last=LogPosition(time=1.0)), 5.0) == []


async def test_each_moment_is_what_a_replay_to_it_says() -> None:
    async for moment, readings in Replay(View()).series(log(recorded()), 3.0):
        at, single = await Replay(View(LogRange(last=LogPosition(time=moment)))).moment(log(recorded()))
        both = [without_age(text(found)) for found in (readings, single)]
        assert both[0] == both[1]
        assert at <= moment


def without_age(text: str) -> list[str]:
    return [line for line in text.splitlines() if AGE not in line]


async def scrape(gateway: Gateway, sequence: int) -> tuple[float, Answers]:
    """What /metrics says when the log was last stored to some time ago, and when that was."""
    while True:
        before = time.time()
        answer = await gateway.get("/metrics")
        after = time.time()
        families = list(scraped_families(answer.text))
        found = {
            (("__name__", sample.name), *sample.labels.items()): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.startswith((*NOT_OF_THE_LOG, "target_info"))
        }
        age = next(value for key, value in found.items() if key[0][1] == AGE)
        if age > 2 * EVERY and await folded(gateway) >= sequence:
            found = {tuple(sorted(key)): value for key, value in found.items() if key[0][1] != AGE}
            return (before + after) / 2, found
        await asyncio.sleep(0.05)


async def folded(gateway: Gateway) -> int:
    position: int = (await gateway.get("/api/status")).json()["log"]["position"]
    return position


async def test_prometheus_answers_from_the_replay_as_it_would_have_from_scrapes(
    launch: Launch, bus: Bus, tmp_path: Path
) -> None:
    gateway = launch()
    await gateway.until_ready()
    scrapes = []
    for step in range(4):
        await traffic(bus, step)
        last = (await bus.jetstream.stream_info("LONGSHORE")).state.last_seq
        async with asyncio.timeout(60):
            scrapes.append(await scrape(gateway, last))
    gateway.stop()
    await exported(bus, tmp_path / "a.log")
    series = tmp_path / "series.txt"
    series.write_text(await written(View(), from_file(str(tmp_path / "a.log")), EVERY))
    blocks = await asyncio.to_thread(load, tmp_path, series)
    with prometheus(tmp_path, blocks) as server:
        for moment, live in scrapes:
            replayed = await asyncio.to_thread(server.at, moment, '{__name__=~"dewy_.+|longshore_.+"}')
            found, gone = told_apart(replayed, comparable(live))
            assert found == comparable(live)
            assert all(value == 0 or isnan(value) for value in gone.values()), gone
        assert {dict(key)["container"] for key in gone} >= {"r-2"}


def told_apart(replayed: Answers, live: Answers) -> tuple[Answers, Answers]:
    """What a scrape shows as well, and the last samples of what is gone."""
    known = {key: value for key, value in replayed.items() if ("__name__", AGE) not in key}
    gone = {key: value for key, value in known.items() if key not in live and "container" in dict(key)}
    return {key: value for key, value in known.items() if key not in gone}, gone


def comparable(live: Answers) -> Answers:
    """A label without a value is no label to Prometheus."""
    return {tuple((name, value) for name, value in key if value): number for key, number in live.items()}


async def traffic(bus: Bus, step: int) -> None:
    """A deployment, health checks, and connections with bytes, latencies and failures."""
    async with publishing(bus, "deployer", f"d-{step}") as deployer:
        began, identity = time.time(), f"deployment-{step}"
        deployer.record(e.ServiceStarted(began, "deployer:shop", "1", 1))
        deployer.record(
            e.DeploymentStarted(
                began, identity, f"v{step}", previous="", by="me", strategy="rolling", replicas=1, trace="0" * 32
            ),
            "shop",
        )
        deployer.record(
            e.ReplicaStarted(began, identity, f"r-{step}", release=f"v{step}", address="127.0.0.1:1", pid=7), "shop"
        )
        if step:
            deployer.record(e.ReplicaRetired(time.time(), identity, f"r-{step - 1}", reason="replaced"), "shop")
        deployer.record(e.DeploymentSucceeded(time.time(), identity, f"v{step}", 1.5 + step), "shop")
    async with publishing(bus, "health", f"h-{step}") as health:
        for n in range(3 + step):
            health.record(e.HealthChecked(time.time(), f"r-{step}", n % 2 == 0, 0.01 * n), "shop")
    async with publishing(bus, "proxy", f"p-{step}") as proxy:
        proxy.record(e.ServiceStarted(time.time(), f"proxy:{step}", "1", 1))
        for n in range(50):
            proxy.record(e.ConnectionAccepted(time.time(), n, 8080), "shop")
            proxy.record(
                e.ConnectionEstablished(time.time(), n, 8080, backend=f"r-{step}", latency=0.0003 * n, attempts=1),
                "shop",
            )
            if n % 5:
                proxy.record(
                    e.ConnectionClosed(
                        time.time(),
                        n,
                        8080,
                        backend=f"r-{step}",
                        bytes_in=10,
                        bytes_out=20 * n,
                        duration=0.02 * n,
                        reason="eof",
                    ),
                    "shop",
                )


async def exported(bus: Bus, path: Path) -> None:
    with writing(str(path), Header(logfile.VERSION, "s"), False) as writer:
        await export(Readable(from_stream(bus)), writer, None, "", lambda _: None)
