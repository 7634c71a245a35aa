"""`longshore demo`, as the README's first command runs it."""

from __future__ import annotations

import json

from tests.e2e.harness import longshore


def test_the_demo_counts_every_connection_and_loses_no_request() -> None:
    answer = longshore("demo", "--once", "--json", timeout=110)
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout)
    assert summary["failed_requests"] == 0
    assert summary["requests"] > 100
    assert summary["requests"] == summary["connections_made"] == summary["connections_counted"]
    assert summary["deployments"] == 2
    assert summary["rollbacks"] == 1
    assert summary["events"] > 3 * summary["requests"]
