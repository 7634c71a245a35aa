"""A replay says what the gateway said at that moment: the same fold, up to any message."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.common.errors import LogFileError
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.instruments.instrument import Measurement, Value
from services.metrics_gateway.state.histogram import Histogram
from services.metrics_gateway.state.state import HISTOGRAMS, State
from services.replay.exposition import text
from services.replay.log.log_range import LogPosition, LogRange, parse_range
from services.replay.log.logfile import Record
from services.replay.log.source import from_file
from services.replay.measure import Readings
from services.replay.replay import Replay, View
from tests.metrics_gateway.recording import START, folded
from tests.metrics_gateway.recording import read as payloads
from tests.replay.recording import recorded, records, write

SEEN = ("dewy.proxy.connection.duration", "dewy.proxy.connect.latency", "dewy.deployment.duration")
"""Histograms that the recorded log has values for, whatever else is measured by now."""

OWN = [one for one in INSTRUMENTS if one.of_process]


def scraped(state: State, now: float) -> str:
    """What a gateway with this state shows on /metrics, but for what it says of its own process."""
    exporter = Exporter(lambda: Measurement(state, now, "1", True, {}), {})
    names = [name for one in OWN for name in (one.prometheus, one.prometheus.removesuffix("_total"), *one.aliases)]
    names.append("target_info")
    lines = exporter.expose("", "").body.decode().splitlines()
    return "\n".join(line for line in lines if not any(_is_of(line, name) for name in names))


def _is_of(line: str, name: str) -> bool:
    words = line.split("{")[0].split(" ")
    return name in words[:3]


async def log(records: list[Record]) -> AsyncIterator[list[Record]]:
    for start in range(0, len(records), 7):
        yield records[start : start + 7]


async def at(view: View, found: list[Record] | None = None) -> tuple[float, Readings]:
    return await Replay(view).moment(log(recorded() if found is None else found))


def value(readings: Readings, metric: str) -> Value:
    (values,) = [values for one, values in readings if one.name == metric]
    return values[0][1]


def number(readings: Readings, metric: str) -> float:
    found = value(readings, metric)
    assert not isinstance(found, Histogram)
    return found


def histogram(readings: Readings, metric: str) -> Histogram:
    found = value(readings, metric)
    assert isinstance(found, Histogram)
    return found


@pytest.mark.parametrize("position", [1, 30, 77, 213])
async def test_a_replay_to_a_message_shows_what_a_scrape_showed_then(position: int) -> None:
    moment, readings = await at(View(LogRange(last=LogPosition(sequence=position))))
    messages = recorded()[:position]
    live = folded([record.payload for record in messages])
    assert moment == messages[-1].time
    assert text(readings).strip() == scraped(live, messages[-1].time)


async def test_ages_are_those_of_the_moment_that_is_replayed() -> None:
    moment, readings = await at(View(LogRange(last=LogPosition(time=START + 5.07))))
    assert moment == START + 5.07
    assert value(readings, "longshore.gateway.state.age") == pytest.approx(0.07)


async def test_what_tells_of_a_running_gateway_is_left_out() -> None:
    _, readings = await at(View())
    names = {one.name for one, _ in readings}
    assert names == {one.name for one in INSTRUMENTS} - {one.name for one in OWN}
    assert "longshore.bus.connected" not in names


async def test_a_span_counts_what_happened_in_it_and_shows_what_was_true_at_its_end() -> None:
    _, before = await at(View(LogRange(last=LogPosition(sequence=99))))
    _, all_of_it = await at(View(LogRange(last=LogPosition(sequence=150))))
    _, inside = await at(View(LogRange(LogPosition(sequence=100), LogPosition(sequence=150))))
    total = "dewy.proxy.connections.total"
    for name in (total, "dewy.proxy.bytes.transferred"):
        assert number(inside, name) == number(all_of_it, name) - number(before, name) > 0
    assert value(inside, "dewy.proxy.connections.active") == value(all_of_it, "dewy.proxy.connections.active")
    one, two, three = (histogram(r, "dewy.proxy.connection.duration") for r in (before, inside, all_of_it))
    assert [a + b for a, b in zip(one.counts, two.counts, strict=True)] == three.counts
    assert one.nanoseconds + two.nanoseconds == three.nanoseconds


def forgetful() -> list[Record]:
    """500 connections to a backend, a proxy that says nothing else for 11 minutes, and one connection more."""
    many = [event for n in range(500) for event in _connection(n)]
    found = [(0.0, [e.ServiceStarted(1.0, "proxy", "1", 1), e.BackendJoined(1.0, 80, "b", "a:1"), *many])]
    found += [(1.0, [e.BackendLeft(1.0, 80, "b")])]
    found += [(10.0 * n, [e.ServiceHeartbeat(1.0, rss=1, cpu=1.0, loop_lag=0.0)]) for n in range(1, 67)]
    found += [(670.0, _connection(500))]
    return [
        Record(n, START + at, "longshore.events.proxy.shop", codec.encode(Batch("proxy", "h", "shop", "p", n, said)))
        for n, (at, said) in enumerate(found, 1)
    ]


def _connection(number: int) -> list[e.AnyEvent]:
    return [
        e.ConnectionAccepted(1.0, number, 80),
        _established(number, 0.001),
        e.ConnectionClosed(1.0, number, 80, backend="b", bytes_in=1, bytes_out=1, duration=0.1, reason="eof"),
    ]


BACKEND = "longshore.proxy.backend.connections"


@pytest.mark.parametrize(("first", "grown"), [(2, 1), (1, 501), (50, 1)])
async def test_what_was_forgotten_meanwhile_is_counted_all_the_same(first: int, grown: int) -> None:
    _, readings = await at(View(LogRange(first=LogPosition(sequence=first))), forgetful())
    assert value(readings, BACKEND) == grown
    assert histogram(readings, "longshore.proxy.backend.connect.latency").count == grown
    assert min(histogram(readings, "longshore.proxy.backend.connect.latency").counts) >= 0
    _, gateway = await at(View(), forgetful())
    assert value(gateway, BACKEND) == 1
    assert value(readings, "longshore.proxy.backend.connections.active") == value(
        gateway, "longshore.proxy.backend.connections.active"
    )


async def test_what_was_forgotten_and_did_not_come_back_is_there() -> None:
    _, readings = await at(View(LogRange(first=LogPosition(sequence=1))), forgetful()[:-1])
    assert value(readings, BACKEND) == 500
    _, gateway = await at(View(), forgetful()[:-1])
    assert [values for one, values in gateway if one.name == BACKEND] == [[]]


@given(st.integers(1, 213), st.integers(1, 213))
@settings(deadline=None, max_examples=25)
def test_no_count_is_ever_below_zero(one: int, other: int) -> None:
    view = View(LogRange(LogPosition(sequence=min(one, other)), LogPosition(sequence=max(one, other))))
    _, readings = asyncio.run(at(view))
    for instrument, values in readings:
        if instrument.kind in ("counter", "histogram"):
            for _, found in values:
                assert min(found.counts) >= 0 if isinstance(found, Histogram) else found >= 0, instrument.name


async def test_a_span_that_begins_after_the_log_has_counted_nothing() -> None:
    _, readings = await at(View(LogRange(first=LogPosition(sequence=10_000))))
    assert value(readings, "dewy.proxy.connections.total") == 0


async def test_one_app_is_all_that_is_shown_of_it() -> None:
    both = [
        codec.encode(Batch("proxy", "h", app, "p", n, [e.ConnectionAccepted(1.0, n, 80)]))
        for n, app in enumerate(["shop", "blog", "blog"], 1)
    ]
    _, readings = await at(View(app="blog"), records(both))
    assert value(readings, "dewy.proxy.connections.total") == 2
    assert all("app" in one.labels for one, _ in readings)
    assert {labels[one.labels.index("app")] for one, values in readings for labels, _ in values} == {"blog"}


@pytest.mark.parametrize("metric", HISTOGRAMS)
async def test_every_histogram_can_be_refolded_into_other_buckets(metric: str) -> None:
    bounds = (0.0001, 0.002, 0.3)
    _, usual = await at(View())
    _, other = await at(View(buckets={metric: bounds}))
    old, new = _all(usual, metric), _all(other, metric)
    assert old.keys() == new.keys()
    assert new or metric not in SEEN
    for labels, found in new.items():
        assert found.bounds == bounds
        assert (found.count, found.nanoseconds) == (old[labels].count, old[labels].nanoseconds)
    for one, values in other:
        if one.name != metric:
            assert all(found.bounds != bounds for _, found in values if isinstance(found, Histogram))


def _all(readings: Readings, metric: str) -> dict[tuple[str, ...], Histogram]:
    return {
        labels: found
        for one, values in readings
        for labels, found in values
        if one.name == metric and isinstance(found, Histogram)
    }


def test_every_histogram_of_the_catalogue_has_its_place_in_the_state() -> None:
    assert set(HISTOGRAMS) == {one.name for one in INSTRUMENTS if one.kind == "histogram"}


async def test_buckets_hold_what_was_measured() -> None:
    batch = Batch("proxy", "h", "shop", "p", 1, [_established(n, n / 1000) for n in (1, 2, 5, 40)])
    view = View(buckets={"dewy.proxy.connect.latency": (0.001, 0.0049, 0.005)})
    _, readings = await at(view, records([codec.encode(batch)]))
    assert histogram(readings, "dewy.proxy.connect.latency").counts == [1, 1, 1, 1]


def _established(connection: int, latency: float) -> e.ConnectionEstablished:
    return e.ConnectionEstablished(1.0, connection, 80, backend="b", latency=latency, attempts=1)


async def test_a_damaged_file_gives_the_numbers_of_what_comes_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", recorded(), every=50)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"R")] + b"garbage")
    replay = Replay(View())
    _, readings = await replay.moment(from_file(str(path)))
    _, expected = await at(View(LogRange(last=LogPosition(sequence=200))))
    assert text(readings) == text(expected)
    assert isinstance(replay.damage, LogFileError)
    assert "after record 200 (sequence 200)" in str(replay.damage)


async def test_a_file_gives_what_the_payloads_give(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", recorded())
    _, readings = await Replay(View()).moment(from_file(str(path)))
    live = folded(list(payloads(Path(__file__).parents[1] / "metrics_gateway" / "recorded.log")))
    assert text(readings).strip() == scraped(live, live.time)


async def test_a_log_without_messages_has_no_series() -> None:
    moment, readings = await at(View(), [])
    assert moment == 0.0
    assert value(readings, "longshore.gateway.events") == 0
    assert io.StringIO(text(readings)).readable()


def test_a_span_reads_sequences_and_times() -> None:
    assert parse_range("", "") == LogRange()
    assert parse_range("5", "10") == LogRange(LogPosition(sequence=5), LogPosition(sequence=10))
    assert parse_range("2023-11-14T22:13:20Z", "@1700000010.5") == LogRange(
        LogPosition(time=START), LogPosition(time=START + 10.5)
    )
