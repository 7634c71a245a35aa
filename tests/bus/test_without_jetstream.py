"""A bus that cannot tell what runs: a person who asks is told so, and does not wait for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas import subjects
from schemas.routing import Decisions
from services.client import client
from services.client.client import Target, connect
from services.common.errors import BusError
from tests.support.configured_server import serving


@pytest.mark.parametrize("jetstream", [True, False], ids=["no streams", "no JetStream"])
async def test_what_runs_is_asked_for_some_time_and_the_problem_told_once(
    jetstream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "VALUES_TIMEOUT", 2.0)
    with serving(tmp_path, "", jetstream) as server, capture_logs() as lines:
        async with connect(Target(nats_url=[server.url])) as there:
            with pytest.raises(BusError, match=r"no answer about the bucket .* within 2 s: .*`longshore bus setup`"):
                await there.values(subjects.DECISIONS, Decisions)
    assert len([line for line in lines if line["event"].startswith("watch failed")]) <= 1
