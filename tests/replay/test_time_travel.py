"""Time travel in tests: a recorded log as it stood after any of its events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import events as e
from services.replay.exposition import text
from services.replay.log.logfile import Record
from services.replay.log.source import from_file
from services.replay.replay import Replay, View
from services.replay.testing import TimeTravel
from tests.replay.recording import GOLDEN, recorded, write

Travel = Callable[[str | Path], TimeTravel]
ACCEPTED = "dewy.proxy.connections.total"


def test_the_moment_after_any_event_can_be_looked_at(time_travel: Travel) -> None:
    log = time_travel(GOLDEN)
    events = log.events()
    kinds = [number for number, event in enumerate(events, 1) if isinstance(event, e.ConnectionAccepted)]
    for count, number in enumerate(kinds[:5], 1):
        past = log.to(number)
        assert past.event == events[number - 1]
        assert past.value(ACCEPTED, app="shop") == count


def test_a_moment_can_be_found_by_what_was_told(time_travel: Travel) -> None:
    log = time_travel(GOLDEN)
    before = log.to(lambda event: isinstance(event, e.DeploymentFailed))
    assert before.value("dewy_deployment_errors_total", app="shop") == 1
    assert before.state.apps["web-1", "shop"].release == "1.1.0"
    quarantined = log.to(lambda event: isinstance(event, e.ReleaseQuarantined))
    assert quarantined.state.apps["web-1", "shop"].quarantined == {"1.2.0": "exited with 1"}
    assert not before.state.apps["web-1", "shop"].quarantined


async def test_the_end_of_the_log_is_what_a_replay_says(time_travel: Travel) -> None:
    _, readings = await Replay(View()).moment(from_file(str(GOLDEN)))
    assert time_travel(GOLDEN).to().metrics() == text(readings)


def test_before_the_first_event_nothing_is_known(time_travel: Travel) -> None:
    past = time_travel(GOLDEN).to(0)
    assert (past.event, past.state.events) == (None, 0)


def test_travel_goes_both_ways_and_leaves_no_trace(time_travel: Travel) -> None:
    log = time_travel(GOLDEN)
    later, earlier, again = log.to(900).metrics(), log.to(400).metrics(), log.to(900).metrics()
    assert later == again != earlier


def test_an_event_that_is_not_there_is_an_error(time_travel: Travel, tmp_path: Path) -> None:
    log = time_travel(GOLDEN)
    with pytest.raises(LookupError, match="no such event among its"):
        log.to(10**6)
    with pytest.raises(LookupError):
        log.to(lambda event: isinstance(event, e.DeploymentsPaused))
    with pytest.raises(LookupError, match="no series"):
        log.to(5).value(ACCEPTED, app="none")


def test_each_event_of_a_batch_is_a_moment_of_its_own(time_travel: Travel, tmp_path: Path) -> None:
    batch: Record = next(one for one in recorded() if b"dial_failed" in one.payload)
    log = time_travel(write(tmp_path / "a.log", [batch]))
    told = [log.to(number).state.events for number in range(1, len(log.events()) + 1)]
    assert told == list(range(1, len(told) + 1))
