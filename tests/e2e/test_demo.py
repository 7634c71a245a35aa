"""`longshore demo`, as the README's first command runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from services.demo.scenario import Summary, totals
from tests.e2e.demo_recording import BLOCK, README
from tests.support.harness import LONGSHORE, clean_environment, longshore, wait_for


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


def test_an_interrupted_demo_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([LONGSHORE, "demo"], env=environment, stdout=subprocess.DEVNULL) as demo:
        wait_for("it started a replica", lambda: list(tmp_path.glob("*/state/replicas/demo/*/replica.json")))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
    assert not [line for line in _command_lines() if str(tmp_path) in line]


def _command_lines() -> list[str]:
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((process / "cmdline").read_bytes().decode().replace("\0", " "))
        except OSError:
            continue
    return lines


@pytest.mark.parametrize(
    ("failed", "made", "counted", "problems"),
    [
        (0, 10, 10, []),
        (1, 10, 10, ["1 requests failed"]),
        (0, 10, 9, ["10 connections made, 9 counted"]),
    ],
)
def test_a_lost_request_or_a_wrong_count_is_a_problem(
    failed: int, made: int, counted: int, problems: list[str]
) -> None:
    summary = Summary(10, failed, 2, 1, 30, made, counted, 1.0)
    assert summary.problems == problems


def test_samples_are_summed_over_their_labels() -> None:
    text = '# HELP a b\na{x="1"} 1.0\na{x="2"} 2\nb_bucket{le="+Inf"} 4\n'
    assert totals(text) == {"a": 3.0, "b_bucket": 4.0}


def test_the_readme_shows_what_the_demo_prints() -> None:
    demo = subprocess.run(
        [LONGSHORE, "demo", "--once"], env=clean_environment(), capture_output=True, text=True, check=True, timeout=300
    )
    (block,) = BLOCK.findall(README.read_text())
    assert without_figures(demo.stdout) == without_figures(block.partition("\n")[2])


def without_figures(text: str) -> list[str]:
    """Return the lines of a demo without its times, counts, ports and the random part of replicas' names."""
    return [re.sub(r"\d+", "N", re.sub(r"(-\d)-[0-9a-f]{6}\b", r"\1", line)) for line in text.splitlines()]
