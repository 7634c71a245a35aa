"""`status`, `events` and `history` of a running system, which the tests of this module share."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo import releases
from services.metrics_gateway.fold.recent import DETAILS
from tests.support.harness import LONGSHORE, Server, clean_environment, wait_for
from tests.support.patience import patience

WIDTH = 80
PAGE = Path(__file__).parents[3] / "docs" / "operating.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with release 1.0.0 after a broken 1.1.0-broken."""
    one = Server(tmp_path_factory.mktemp("live"), "--replicas", "2", "--health-timeout", "2")
    releases.publish(one.registry, releases.FIRST)
    one.start()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    releases.publish(one.registry, releases.BROKEN)
    wait_for(
        "the broken release is rolled back", lambda: one.status().get("failure") and one.status()["running"] is None
    )
    yield one
    one.stop()
    one.end_replicas()


def on_terminal(server: Server, *words: str) -> list[str]:
    """The lines of a command on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    variables = clean_environment() | {"TERM": "xterm"}
    variables.pop("COLUMNS", None)
    command = [LONGSHORE, *words, "--state-dir", server.state]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=variables) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert process.wait(patience(60)) == 0
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the program has closed its end
        return b""


def test_status_says_what_is_wanted_what_failed_and_since_when(server: Server) -> None:
    found = server.status()
    assert (found["release"], found["desired_replicas"], len(found["replicas"])) == (releases.FIRST, 2, 2)
    assert found["since"] > 1.6e9
    assert all(one["started"] > 1.6e9 for one in found["replicas"])
    assert (found["failure"]["release"], found["failure"]["phase"]) == (releases.BROKEN, "check")
    assert found["quarantined_since"].keys() == {releases.BROKEN}


def test_status_fits_80_columns(server: Server) -> None:
    shown = on_terminal(server, "status")
    assert max(map(len, shown)) <= WIDTH
    assert shown[0].startswith(f"web:        release {releases.FIRST} for ")
    assert [line.split()[0] for line in shown if line.startswith("  ") and line[2] != " "][:3] == [
        "quarantined",
        "last",
        "REPLICA",
    ]


def test_check_says_what_is_wrong_and_exits_with_3(server: Server) -> None:
    done = server.verb("status", "--check")
    assert done.returncode == 3
    assert f": release {releases.BROKEN} is quarantined: " in done.stderr
    assert server.verb("status", "--host", "nowhere", "--check").returncode == 3


def test_status_of_all_hosts_names_the_host_and_that_of_another_is_empty(server: Server) -> None:
    (line,) = server.verb("status", "--host", "nowhere", "--all-hosts", "--json").stdout.splitlines()
    assert json.loads(line)["host"] == os.uname().nodename
    assert server.verb("status", "--host", "nowhere").stdout == ""


def test_the_api_and_status_agree_on_the_number_of_replicas_and_the_quarantine(server: Server) -> None:
    with urllib.request.urlopen(server.metrics_url.replace("/metrics", "/api/status"), timeout=patience(10)) as answer:
        (app,) = json.load(answer)["apps"]
    found = server.status()
    assert (app["desired_replicas"], app["release"]) == (found["desired_replicas"], found["release"])
    assert app["quarantined"] == found["quarantined"]
    assert app["quarantined_since"].keys() == found["quarantined_since"].keys()


def test_a_pin_is_shown_with_the_person_until_it_is_resumed(server: Server) -> None:
    server.verb("rollback", releases.FIRST)
    wait_for("the pin is on the log", lambda: server.status()["pinned_by"])
    with urllib.request.urlopen(server.metrics_url.replace("/metrics", "/api/status"), timeout=patience(10)) as answer:
        (app,) = json.load(answer)["apps"]
    assert app["pinned"]["release"] == releases.FIRST == server.status()["pinned"]
    server.verb("resume")
    wait_for("the pin has ended", lambda: not server.status()["pinned"])


def test_history_fits_80_columns_and_wide_does_not_cut(server: Server) -> None:
    shown = on_terminal(server, "history")
    assert max(map(len, shown)) <= WIDTH
    assert shown[0].split() == ["STARTED", "RELEASE", "FROM", "BY", "OUTCOME", "SECONDS"]
    assert len([line for line in shown if line.startswith("  failed ")]) == 1
    wide = on_terminal(server, "history", "--wide")
    assert wide == server.verb("history").stdout.splitlines()


def test_events_leaves_out_what_comes_with_every_probe_and_heartbeat(server: Server) -> None:
    names = {kind.__name__ for kind in DETAILS}
    kinds = {json.loads(line)["event"] for line in server.verb("events", "--json").stdout.splitlines()}
    assert "DeploymentFailed" in kinds
    assert not kinds & names
    everything = {json.loads(line)["event"] for line in server.verb("events", "--json", "--all").stdout.splitlines()}
    assert {"ServiceHeartbeat", "HealthChecked"} <= everything & names


def test_events_of_a_kind_and_the_last_ones(server: Server) -> None:
    lines = server.verb("events", "--kind", "ReplicaReady", "--kind", "HealthChecked", "--json").stdout.splitlines()
    assert {json.loads(line)["event"] for line in lines} == {"ReplicaReady", "HealthChecked"}
    started = server.verb("events", "--kind", "DeploymentStarted").stdout.splitlines()
    assert server.verb("events", "--kind", "DeploymentStarted", "--tail", "1").stdout.splitlines() == started[-1:]
    assert server.verb("events", "--tail", "0").stdout == ""


def test_events_since_and_until_a_moment(server: Server) -> None:
    first, *_, last = map(json.loads, server.verb("events", "--json").stdout.splitlines())
    middle = (first["time"] + last["time"]) / 2
    earlier = server.verb("events", "--until", f"@{middle}", "--json").stdout.splitlines()
    later = server.verb("events", "--since", f"@{middle}", "--json").stdout.splitlines()
    assert earlier
    assert later
    assert (
        max(json.loads(line)["time"] for line in earlier) <= middle <= min(json.loads(line)["time"] for line in later)
    )
    assert server.verb("events", "--since", "1d", "--kind", "DeploymentFailed").stdout


def test_events_come_in_the_order_of_their_times_with_milliseconds(server: Server) -> None:
    times = [line[:23] for line in server.verb("events", "--all").stdout.splitlines()]
    assert times == sorted(times)
    assert len({time[20:] for time in times}) > 10


def test_follow_begins_now(server: Server) -> None:
    command = [LONGSHORE, "events", "--follow", "--json", "--state-dir", server.state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdout

        output = process.stdout

        def after_a_pause() -> bytes | None:
            assert [server.verb(word).returncode for word in ("pause", "resume")] == [0, 0]
            return output.readline() or None

        # It prints nothing before something happens, so the test cannot wait for its start.
        os.set_blocking(output.fileno(), False)
        line = wait_for("an event is followed", after_a_pause)
        assert line
        process.terminate()
    assert json.loads(line)["event"] in ("DeploymentsPaused", "DeploymentsResumed", "CommandAnswered")


def test_without_a_bus_one_line_says_how_to_read_the_log(tmp_path: Path) -> None:
    """The log of a stopped Longshore is read with its bus alone."""
    one = Server(tmp_path)
    releases.publish(one.registry, releases.FIRST)
    one.start()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    one.stop()
    one.end_replicas()
    for verb in ("status", "events", "history"):
        done = one.verb(verb)
        assert (done.returncode, done.stderr) == (
            1,
            (
                f"longshore: nothing runs with --state-dir {one.state}: start Longshore; to read its log only, start "
                f"its bus, `longshore bus --state-dir {one.state}`\n"
            ),
        )
    with subprocess.Popen([LONGSHORE, "bus", "--state-dir", one.state], stderr=subprocess.DEVNULL) as bus:
        wait_for("the bus answers", lambda: one.verb("history").returncode == 0)
        assert json.loads(one.verb("history", "--json").stdout)["outcome"] == "succeeded"
        assert one.verb("events", "--kind", "DeploymentSucceeded").stdout
        assert one.status()["problems"][0] == "its deployer does not run"
        bus.terminate()


def test_a_check_finds_that_all_was_killed_although_the_log_does_not_say_it(tmp_path: Path) -> None:
    one = Server(tmp_path)
    releases.publish(one.registry, releases.FIRST)
    one.start()
    wait_for("nothing is wrong", lambda: one.verb("status", "--check").returncode == 0)
    one.stop(signal.SIGKILL)
    wait_for("the bus has ended with it", lambda: "nothing runs with" in one.verb("status").stderr)
    with subprocess.Popen([LONGSHORE, "bus", "--state-dir", one.state], stderr=subprocess.DEVNULL) as bus:
        wait_for("the bus answers", lambda: one.verb("history").returncode == 0)
        checked = one.verb("status", "--check")
        assert (checked.returncode, "its deployer does not run" in checked.stderr) == (3, True)
        bus.terminate()
    one.end_replicas()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["events", "--kind", "DeploymentStart"], "no such kind of event; did you mean DeploymentStarted?"),
        (["events", "--tail", "-1"], "--tail -1: use 0 or more events"),
        (["events", "--since", "12"], "--since 12: use a duration (10m)"),
        (["events", "--follow", "--until", "1m"], "--until: excludes --follow"),
        (["status", "--watch", "--json"], "--watch: excludes --check and --json"),
    ],
)
def test_a_mistake_is_one_line(server: Server, words: list[str], says: str) -> None:
    done = server.verb(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def documented(title: str) -> list[str]:
    """The commands of a section of docs/operating.md."""
    (_, text) = PAGE.read_text().split(f"\n## {title}\n")
    return re.findall(r"^longshore (.+)$", text.partition("\n## ")[0], re.MULTILINE)


ENDLESS = {"--watch", "--follow"}


@pytest.mark.parametrize("command", [*documented("See what runs"), *documented("Read events and history")])
def test_a_command_of_the_page_works_as_it_is_printed(server: Server, command: str) -> None:
    words = command.split()
    if not ENDLESS & set(words):
        done = server.verb(*words)
        assert done.returncode == (3 if "--check" in words else 0), done.stderr
        return
    variables = clean_environment() | {"LONGSHORE_STATE_DIR": server.state}
    with subprocess.Popen([LONGSHORE, *words], stdout=subprocess.PIPE, env=variables) as process:
        assert process.stdout
        output = process.stdout
        os.set_blocking(output.fileno(), False)
        wait_for("it prints something", lambda: server.verb("pause").returncode == 0 and output.read())
        process.send_signal(signal.SIGINT)
        assert process.wait(patience(30)) == 130
    server.verb("resume")
