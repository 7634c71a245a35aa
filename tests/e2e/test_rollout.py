"""A release rolls out under load, end to end, with real processes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable

from services.demo import releases
from tests.support.harness import Server, Traffic, wait_for


def test_a_release_added_while_wrk_runs_rolls_out_without_a_failed_request(server: Callable[..., Server]) -> None:
    one = server("--replicas", "3", "--workers", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    wrk = subprocess.Popen(
        ["wrk", "-t1", "-c8", "-d12", f"http://127.0.0.1:{one.port}/"], stdout=subprocess.PIPE, text=True
    )
    releases.publish(one.registry, releases.SECOND)
    wait_for("the second release serves", lambda: one.serves(releases.SECOND))
    assert wrk.poll() is None, "the rollout was to happen under load"
    report, _ = wrk.communicate(timeout=60)
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    requests = int(re.findall(r"(\d+) requests in", report)[0])
    assert requests > 0
    counted = wait_for("all connections are counted", lambda: _total(one) >= requests and _total(one))
    assert requests <= counted <= requests + 9, "wrk tries the port once, and ends with 8 requests under way"


def _total(one: Server) -> int:
    return int(one.metrics().get("dewy_proxy_connections_total", 0))


def test_a_broken_release_is_rolled_back_once_and_retried_only_when_told(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2", "--health-timeout", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    with Traffic(one.port) as traffic:
        releases.publish(one.registry, releases.BROKEN)
        wait_for("the quarantine", lambda: releases.BROKEN in one.status()["quarantined"])
        refused = one.verb("deploy", releases.BROKEN)
        retried = one.verb("retry", "--json")
    assert traffic.answered > 0
    assert traffic.broken == []
    assert one.serves(releases.FIRST)
    assert refused.returncode == 1
    assert "retry" in refused.stderr
    assert retried.returncode == 1
    assert f"longshore: {releases.BROKEN} was rolled back: check: " in retried.stderr
    assert "was not ready within 2 s: status 500" in retried.stderr
    outcomes = [json.loads(line)["outcome"] for line in one.verb("history", "--json").stdout.splitlines()]
    assert outcomes == ["succeeded", "rolled back", "rolled back"]


def test_a_deployment_that_does_not_end_is_aborted(server: Callable[..., Server]) -> None:
    one = server("--health-timeout", "600")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    idle = one.verb("abort", "--json")
    assert (idle.returncode, idle.stdout) == (1, "")
    assert idle.stderr == "longshore: no deployment is under way: nothing to abort\n"
    releases.publish(one.registry, releases.BROKEN)
    wait_for("it is under way", lambda: "wait for its end" in one.verb("resume").stderr)
    refused = one.verb("deploy", releases.FIRST)
    assert "or end it with `longshore abort`" in refused.stderr
    aborted = one.verb("abort", "--json")
    assert aborted.returncode == 0, aborted.stderr
    assert f"quarantined until `longshore retry {releases.BROKEN}`" in json.loads(aborted.stdout)["message"]
    assert one.serves(releases.FIRST)
    assert list(one.status()["quarantined"]) == [releases.BROKEN]
    last = json.loads(one.verb("history", "--json").stdout.splitlines()[-1])
    assert (last["outcome"], last["phase"]) == ("rolled back", "check")
    assert last["reason"].startswith("aborted by ")


def test_pause_holds_new_releases_and_rollback_stays_until_resume(server: Callable[..., Server]) -> None:
    one = server("--replicas", "1")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    assert one.verb("pause").returncode == 0
    releases.publish(one.registry, releases.SECOND)
    refused = one.verb("deploy", releases.SECOND)
    assert refused.returncode == 1
    assert "paused" in refused.stderr
    for _ in range(6):  # time for some looks at the registry
        time.sleep(0.5)
        assert one.serves(releases.FIRST)
    assert len(one.verb("history", "--json").stdout.splitlines()) == 1
    assert one.verb("resume").returncode == 0
    wait_for("the newest release serves", lambda: one.serves(releases.SECOND))
    assert one.verb("rollback").returncode == 0
    assert one.serves(releases.FIRST)
    assert one.status()["pinned"] == releases.FIRST
    assert one.verb("resume").returncode == 0
    wait_for("the newest release serves again", lambda: one.serves(releases.SECOND))
    deployed = one.verb("deploy", releases.FIRST, "--json")
    assert deployed.returncode == 0
    assert json.loads(deployed.stdout)["outcome"] == "succeeded"
    followed = one.verb("events", "--service", "deployer", "--json").stdout.splitlines()
    kinds = [json.loads(line)["event"] for line in followed]
    assert kinds.count("DeploymentSucceeded") == 5
    assert kinds.count("DeploymentsPaused") == 1
    assert "DeploymentsResumed" in kinds


def test_stopping_leaves_the_replicas_unless_told_otherwise(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2")
    wait_for("it serves", lambda: one.serves(releases.FIRST))
    assert one.stop() == 0
    assert len(one.shims()) == 2
    one.start("--replicas", "2", "--stop-containers")
    wait_for("the deployer answers", lambda: one.verb("resume").returncode == 0)
    assert len(one.shims()) == 2
    assert one.stop() == 0
    assert one.shims() == []
