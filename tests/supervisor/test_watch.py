"""One service under watch: it ends as the service does, and when the service hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import children_of, clean_environment, runs, wait_for
from tests.support.nats_server import NatsServer

WATCH = [sys.executable, "-m", "services.supervisor.watched_service"]


@pytest.fixture
def health(nats_server: NatsServer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A health service under watch, that has said that it started."""
    words = ["health", "--nats-url", nats_server.url, "--state-dir", str(tmp_path), "--host", "here"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*WATCH, *words], stderr=output, env=clean_environment())
    wait_for("the service runs", lambda: children_of(process.pid))
    wait_for("it waits for what comes", lambda: _waits(children_of(process.pid)[0]))
    yield process
    process.kill()
    process.wait()


def _waits(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, and sleeps: it has given its first sign of life (proc(5))."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) & 1 << signal.SIGTERM - 1) and status["State"].split()[0] == "S"


@pytest.mark.timeout(150)
def test_a_service_that_hangs_is_killed_and_the_watch_ends(health: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (service,) = children_of(health.pid)
    os.kill(service, signal.SIGSTOP)
    assert health.wait(120) == 128 + signal.SIGKILL
    assert not runs(service)
    assert "health was killed by signal 9" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_the_service_ends_in_order(health: subprocess.Popen[bytes], number: int) -> None:
    (service,) = children_of(health.pid)
    health.send_signal(number)
    assert health.wait(60) == 0
    assert not runs(service)


@pytest.mark.parametrize(("words", "code"), [(["proxy"], 2), (["health", "--no-such-option"], 2), (["--help"], 0)])
def test_it_exits_as_the_command_does(words: list[str], code: int) -> None:
    done = subprocess.run([*WATCH, *words], capture_output=True, text=True, env=clean_environment(), check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
