"""The disk of the state directory is full for a while: traffic and deployments go on, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.demo import releases
from tests.support.disk import Disk, small_disk
from tests.support.harness import Server, Traffic, wait_for

SETTLED = 90.0


@pytest.fixture
def one(tmp_path: Path) -> Server:
    return Server(tmp_path, "--replicas", "2", "--workers", "2", "--stop-containers")


def test_a_disk_that_was_full_costs_no_connection_and_no_event(one: Server) -> None:
    releases.publish(one.registry, releases.FIRST)
    with small_disk(Path(one.state)) as disk:
        one.start()
        try:
            wait_for("the first release serves", lambda: one.serves(releases.FIRST), SETTLED)
            with Traffic(one.port) as traffic:
                _be_full_for_a_while(one, disk, traffic)
                traffic.wait_for_more(100)
                releases.publish(one.registry, releases.SECOND)
                wait_for("the next release serves", lambda: one.serves(releases.SECOND), SETTLED)
            assert traffic.refused == 0
            assert traffic.broken == []
            wait_for("every connection is counted", lambda: _counted(one) == traffic.answered, SETTLED)
            found = one.metrics()
            assert found["longshore_events_dropped_total"] == found["longshore_gateway_batches_missing"] == 0
            verified = one.verb("verify")
            assert verified.returncode == 0, verified.stderr
        finally:
            one.stop()


def _be_full_for_a_while(one: Server, disk: Disk, traffic: Traffic) -> None:
    traffic.wait_for_more(100)
    disk.fill()
    wait_for("the bus cannot write", lambda: "the bus cannot write" in one.log.read_text(), SETTLED)
    traffic.wait_for_more(300)
    disk.free()
    wait_for("there is room again", lambda: "starting the bus anew" in one.log.read_text(), SETTLED)


def _counted(one: Server) -> float:
    return one.metrics().get("dewy_proxy_connections_total", 0)
