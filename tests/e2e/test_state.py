"""A running application goes on from another state directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo import releases
from tests.e2e.test_activation import Activated
from tests.support.harness import Traffic, longshore, wait_for


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Activated]:
    one = Activated(tmp_path)
    releases.publish(one.registry, releases.FIRST)
    one.start()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    yield one
    one.stop()
    one.end_replicas()
    one.close()


def _replicas(server: Activated) -> list[str]:
    return sorted(one["id"] for one in server.status()["replicas"])


def test_a_state_moves_under_traffic_without_a_refused_connection(activated: Activated, tmp_path: Path) -> None:
    before, shims = _replicas(activated), activated.shims()
    assert activated.verb("state", "move", str(tmp_path / "new")).returncode == 2, "it runs"
    with Traffic(activated.port) as traffic:
        traffic.wait_for_more(5)
        activated.stop()
        moved = activated.verb("state", "move", str(tmp_path / "new"))
        assert moved.returncode == 0, moved.stderr
        activated.state = str(tmp_path / "new")
        activated.start()
        traffic.wait_for_more(20)
    assert (traffic.refused, traffic.broken) == (0, [])
    assert _replicas(activated) == before
    activated.state = str(tmp_path / "state")  # the shims have the old name in their command line
    assert activated.shims() == shims


def test_a_restored_state_keeps_its_decisions_its_log_and_its_token(activated: Activated, tmp_path: Path) -> None:
    releases.publish(activated.registry, releases.SECOND)
    wait_for("the second release serves", lambda: activated.serves(releases.SECOND))
    assert activated.verb("rollback", releases.FIRST).returncode == 0
    past = activated.verb("history", "--json").stdout.splitlines()
    activated.stop()
    activated.end_replicas()  # the old host is switched off
    file, old = str(tmp_path / "web-1.state"), Path(activated.state)
    assert longshore("state", "backup", file, "--state-dir", str(old)).returncode == 0
    token = (old / "admin-token").read_text()
    restored = longshore("state", "restore", file, "--state-dir", str(tmp_path / "second"))
    assert restored.returncode == 0, restored.stderr
    activated.state = str(tmp_path / "second")
    activated.start()
    wait_for("the pinned release serves", lambda: activated.serves(releases.FIRST))
    assert activated.status()["pinned"] == releases.FIRST
    assert activated.verb("history", "--json").stdout.splitlines()[: len(past)] == past
    assert (tmp_path / "second" / "admin-token").read_text() == token
    assert activated.verb("verify").returncode == 0
