"""Child processes are kept running, and end with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.common.process import child as processes
from services.common.process.child import Child, describe_exit
from services.common.process.watchdog import VARIABLE, WatchdogPing
from tests.support.harness import runs, wait_for
from tests.support.patience import patience

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, "the condition", condition)


async def test_a_killed_child_is_started_again_and_its_exit_told() -> None:
    told: list[int] = []

    def note(_child: Child, code: int) -> bool:
        told.append(code)
        return True

    child = Child("sleeper", SLEEP, on_exit=note)
    await child.start()
    first = child.pid
    os.kill(first, signal.SIGKILL)
    await _until(lambda: child.pid not in (0, first))
    assert told == [-9]
    assert child.restarts == 1
    await child.stop(5)
    assert child.pid == 0


async def test_a_child_is_not_started_again_when_its_owner_says_so() -> None:
    ended = asyncio.Event()

    def note(_child: Child, code: int) -> bool:
        assert code == 3
        ended.set()
        return False

    child = Child("quitter", [sys.executable, "-c", "raise SystemExit(3)"], on_exit=note)
    await child.start()
    async with asyncio.timeout(patience(20)):
        await ended.wait()
    assert child.pid == 0
    assert child.restarts == 0
    await child.stop(1)


async def test_a_child_that_cannot_be_started_again_for_a_while_is_tried_on(tmp_path: Path) -> None:
    program, away = tmp_path / "program", tmp_path / "away"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with capture_logs() as lines:
        child = Child("sleeper", [str(program)])
        await child.start()
        program.rename(away)
        os.kill(child.pid, signal.SIGKILL)
        await _until(lambda: any(line["event"] == "cannot be started, retrying" for line in lines))
        away.rename(program)
        await _until(lambda: child.pid != 0)
    await child.stop(5)


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = Child("stubborn", [sys.executable, "-c", stubborn])
    await child.start()
    pid = child.pid
    await _until(lambda: _ignores(pid, signal.SIGTERM))
    with capture_logs() as lines:
        await child.stop(0.2)
    assert not runs(pid)
    assert [line["event"] for line in lines] == ["did not stop in time, killed"]


def _ignores(pid: int, number: int) -> bool:
    """Whether a process ignores a signal (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (ignored,) = [line.split()[1] for line in lines if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) & 1 << number - 1)


def test_children_end_when_their_parent_is_killed() -> None:
    program = (
        "import asyncio, sys\n"
        "from services.common.process.child import Child\n"
        "async def main():\n"
        "    child = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    await child.start(); print(child.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    wait_for("the child ends", lambda: not runs(child))


def test_an_exit_status_in_words() -> None:
    assert describe_exit(-9) == "killed by signal 9"
    assert describe_exit(3) == "exit code 3"


BEATING = """
import os, time
from services.common.process.watchdog import WatchdogPing
ping = WatchdogPing(os.environ)
assert "LONGSHORE_PULSE_FD" not in os.environ
while True:
    ping.ping()
    time.sleep(0.05)
"""


async def test_a_child_whose_pulse_stops_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHECK_INTERVAL", 0.5)
    child = Child("beating", [sys.executable, "-c", BEATING], has_watchdog=True)
    await child.start()
    first = child.pid
    await asyncio.sleep(4)
    assert (child.pid, child.restarts) == (first, 0)
    os.kill(first, signal.SIGSTOP)
    with capture_logs() as lines:
        await _until(lambda: child.pid not in (0, first))
    assert [line["event"] for line in lines][:2] == ["hangs, killed", "ended, starting it again"]
    await child.stop(5)


async def test_a_child_that_has_not_given_a_sign_of_life_yet_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "CHECK_INTERVAL", 0.02)
    child = Child("sleeper", SLEEP, has_watchdog=True)
    await child.start()
    first = child.pid
    await asyncio.sleep(0.5)
    assert (child.pid, child.restarts) == (first, 0)
    await child.stop(5)


def test_a_pulse_that_nobody_takes_harms_nobody() -> None:
    reader, writer = os.pipe()
    ping = WatchdogPing({VARIABLE: str(writer)})
    for _ in range(100_000):
        ping.ping()
    os.close(reader)
    os.close(writer)
    WatchdogPing({}).ping()
