"""Signals that operators and terminals send to a running Longshore."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from services.demo import releases
from tests.support.harness import Server, children_of, wait_for


def test_a_hangup_ends_neither_the_server_nor_a_service_and_is_one_line_each(server: Callable[..., Server]) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    processes = [one.pid, *children_of(one.pid)]
    units = len(processes) - 1  # the bus is no service of ours: nats-server reloads its configuration on SIGHUP
    workers = [worker for process in processes[1:] for worker in children_of(process)]
    assert workers
    for process in [*processes, *workers]:
        os.kill(process, signal.SIGHUP)
    wait_for("each has said so", lambda: one.log.read_text().count("SIGHUP is ignored") == units)
    assert one.serves(releases.FIRST)
    assert [one.pid, *children_of(one.pid)] == processes
    assert [worker for process in processes[1:] for worker in children_of(process)] == workers


def test_lines_of_a_deployer_name_its_application(server: Callable[..., Server]) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    lines = [line for line in one.log.read_text().splitlines() if "service=deployer" in line]
    assert any("deployment started" in line for line in lines)
    assert [line for line in lines if "app=web" not in line] == []
