"""The commands of docs/operating.md, against a Longshore that runs; and what only a real terminal shows."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo import releases
from tests.support.harness import LONGSHORE, Server, clean_environment, longshore, wait_for
from tests.support.patience import patience
from tests.support.releases import PYTHON, release

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
REPLICA = "web-1_0_0-0-2ce829"
"""The replica that the page names."""

CHATTY = (
    PYTHON
    + """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        print("request", flush=True)
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("operating"))
    folder = release(one.registry, releases.FIRST, CHATTY)
    (folder / "migrate").write_text('#!/bin/sh\necho "migrated $1 of $LONGSHORE_RELEASE"\n')
    (folder / "migrate").chmod(0o755)
    one.start()
    wait_for("it serves", lambda: one.serves(releases.FIRST), 60)
    yield one
    one.stop()
    one.end_replicas()


def replica_of(server: Server) -> str:
    return str(server.status()["replicas"][0]["id"])


def section(title: str) -> list[str]:
    """The commands of a part of the page."""
    text = PAGE.read_text().split(f"\n## {title}\n")[1].partition("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def done(server: Server, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the page in a shell, for this replica."""
    line = line.replace(REPLICA, replica_of(server)).replace("longshore ", f"{shlex.quote(LONGSHORE)} ", 1)
    environment = clean_environment() | {"LONGSHORE_STATE_DIR": server.state}
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )


@pytest.mark.parametrize(
    "line", [line for line in section("Logs") if "--follow" not in line and "--previous" not in line]
)
def test_the_commands_about_logs_print_the_output(running: Server, line: str, tmp_path: Path) -> None:
    result = done(running, line, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "listening" in result.stdout
    if "--json" in line:
        first = json.loads(result.stdout.splitlines()[0])
        assert set(first) == {"replica", "time", "stream", "line"}
    elif "--timestamps" in line:
        assert re.search(r"^\S+ \| \d{4}-\d\d-\d\dT[\d:.+]+ listening$", result.stdout, re.MULTILINE)


def test_logs_are_followed_until_the_reader_leaves(running: Server) -> None:
    (line,) = [line for line in section("Logs") if "--follow" in line]
    words = shlex.split(line, comments=True)[1:]
    process = subprocess.Popen(
        [LONGSHORE, *words, "--state-dir", running.state], stdout=subprocess.PIPE, env=clean_environment()
    )
    assert process.stdout
    shown = process.stdout.readline()  # probes make the server print
    assert shown.endswith(b" | request\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(patience(20)) == 130
    process.stdout.close()


def test_a_replica_that_is_not_there_is_one_line(running: Server) -> None:
    result = running.verb("logs", "nope")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("longshore: the output of replica 'nope' is not kept here; it is of web-")
    assert result.stderr.count("\n") == 1
    assert running.verb("logs", "--tail", "-2").returncode == 2


def test_the_commands_in_a_replica_run(running: Server, tmp_path: Path) -> None:
    plain, terminal, piped = section("Run a command in a replica")
    result = done(running, plain, tmp_path)
    assert (result.returncode, "migrate" in result.stdout) == (0, True)
    (tmp_path / "dump").write_text("the dump")
    target = tmp_path / "copied"
    result = done(running, piped.replace("/tmp/dump", str(target)), tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert target.read_text() == "the dump"
    result = done(running, terminal, tmp_path)
    assert result.returncode == 2
    assert "--tty: standard input and output are not a terminal" in result.stderr


def test_the_commands_of_a_task_run(running: Server, tmp_path: Path) -> None:
    plain, _ = section("Run a one-off task")
    result = done(running, plain, tmp_path)
    assert (result.returncode, result.stdout) == (0, f"migrated --all of {releases.FIRST}\n")
    result = longshore("run", "--state-dir", running.state, "--", "sh", "-c", "echo problem >&2; exit 9")
    assert (result.returncode, result.stdout, result.stderr) == (9, "", "problem\n")


def test_a_command_that_reads_only_some_of_its_input_ends_quietly(running: Server) -> None:
    words = [LONGSHORE, "exec", "--state-dir", running.state, "-i", replica_of(running), "--", "head", "-1"]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        assert yes.stdout
        result = subprocess.run(
            words, stdin=yes.stdout, capture_output=True, text=True, env=clean_environment(), timeout=patience(60)
        )
        yes.kill()
    assert (result.returncode, result.stdout, result.stderr) == (0, "y\n", "")


@pytest.mark.parametrize(("way", "code"), [("exit", 0), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_shell_has_a_terminal_that_is_restored_on_every_way_out(running: Server, way: str, code: int) -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    process = _with_terminal(running, its, ["-i", "-t"], "tty; while read word; do echo [$word]; done")
    shown = _until(ours, b"/dev/pts/")
    assert termios.tcgetattr(its) != before
    os.write(ours, b"hello\r")
    shown += _until(ours, b"[hello]")
    if way == "exit":
        os.write(ours, b"\x04")
    else:
        process.send_signal(signal.Signals[way])
    shown += _until_ended(process, ours)
    assert termios.tcgetattr(its) == before
    os.close(its)
    os.close(ours)
    assert (process.returncode, b"Traceback" in shown) == (code, False)


def test_a_terminal_without_input_keeps_its_own_control_keys(running: Server) -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    process = _with_terminal(running, its, ["-t"], "tty; exec sleep 600")
    _until(ours, b"/dev/pts/")
    assert termios.tcgetattr(its) == before
    os.write(ours, b"\x03")
    _until_ended(process, ours)
    os.close(its)
    os.close(ours)
    assert process.returncode == 130


def _with_terminal(server: Server, terminal: int, options: list[str], script: str) -> subprocess.Popen[bytes]:
    """Run a script in the replica, from a terminal."""

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    return subprocess.Popen(
        [LONGSHORE, "exec", "--state-dir", server.state, *options, replica_of(server), "--", "sh", "-c", script],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=clean_environment() | {"TERM": "vt100"},
        start_new_session=True,
        preexec_fn=take_terminal,
    )


def _until(terminal: int, words: bytes) -> bytes:
    shown, deadline = b"", time.monotonic() + patience(30)
    while words not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096)
    return shown


def _until_ended(process: subprocess.Popen[bytes], terminal: int) -> bytes:
    """Wait for the end, and return what is shown meanwhile: a full terminal would block it."""
    shown, deadline = b"", time.monotonic() + patience(30)
    while process.poll() is None or select.select([terminal], [], [], 0)[0]:
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096)
    return shown


def test_the_output_of_a_replica_that_died_is_there(running: Server, tmp_path: Path) -> None:
    died = replica_of(running)
    (line,) = [line for line in section("Logs") if "--previous" in line]
    os.kill(_program(died), signal.SIGKILL)
    wait_for("its successor serves", lambda: running.serves(releases.FIRST) and replica_of(running) != died, 60)
    result = done(running, line, tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{died} | listening" in result.stdout


def _program(replica: str) -> int:
    """The process of a replica: the youngest with its mark."""
    mark = f"LONGSHORE_REPLICA={replica}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in process.joinpath("environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return max(found)
