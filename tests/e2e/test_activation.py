"""Socket activation: a port that systemd holds refuses nobody while Longshore is upgraded."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import SettingsError
from services.common.lifecycle import STOP_TIMEOUT
from services.demo import releases
from services.proxy.activation import activated, hand
from services.proxy.settings import ProxySettings
from tests.conftest import free_port
from tests.e2e.harness import LONGSHORE, Server, Traffic, clean_environment, longshore, wait_for

EXEC = (
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
    "copies = [os.dup2(int(fd), 100 + i) for i, fd in enumerate(sys.argv[1].split(','))]; "
    "[os.dup2(fd, 3 + i) for i, fd in enumerate(copies)]; "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class Activated(Server):
    """A server whose port is held by this process, the way systemd holds it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "--workers", "2")
        self.sockets = {self.port: socket.create_server(("127.0.0.1", self.port), backlog=1024)}

    def start(self, *_options: str, **variables: str) -> None:
        given = [one.fileno() for one in self.sockets.values()]
        words = [LONGSHORE, *self.arguments(), *self._options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", EXEC, ",".join(map(str, given)), *words],
                stderr=log,
                env=clean_environment() | {"LISTEN_FDS": str(len(given))} | variables,
                pass_fds=given,
            )

    def close(self) -> None:
        for one in self.sockets.values():
            one.close()


class ActivatedUp(Activated):
    """`longshore up` with two applications, whose ports are both held."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._options = ()
        self.file = directory / "longshore.toml"
        self.second = free_port()
        self.sockets[self.second] = socket.create_server(("127.0.0.1", self.second), backlog=1024)

    def arguments(self) -> list[str]:
        return ["up", "-f", str(self.file)]

    def write(self, **ports: int) -> None:
        """The file, with these applications."""
        lines = [f'state-dir = "{self.state}"', f"admin-port = {self.admin_port}", "interval = 0.5", "workers = 2"]
        for app, port in ports.items():
            lines += [
                f"[app.{app}]",
                f'registry = "dir://{self.registry}"',
                f"port = [{port}]",
                "stop-containers = true",
            ]
        self.file.write_text("\n".join(lines))

    def answers(self, port: int) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return b"release" in answer.read()
        except OSError:
            return False


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Activated]:
    server = Activated(tmp_path)
    releases.publish(server.registry, releases.FIRST)
    server.start()
    yield server
    server.stop()
    server.end_replicas()
    server.close()


def test_an_upgrade_refuses_no_connection(held: Activated) -> None:
    wait_for("it serves", lambda: held.serves(releases.FIRST))
    with Traffic(held.port) as traffic:
        traffic.wait_for_more(50)
        assert held.stop() == 0
        held.start()
        traffic.wait_for_more(50)
    assert traffic.broken == []


def test_the_service_manager_is_told_when_it_is_ready(tmp_path: Path) -> None:
    server = Server(tmp_path)
    releases.publish(server.registry, releases.FIRST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        server.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
    assert server.metrics()
    server.stop()
    server.end_replicas()


def test_the_units_are_what_systemd_understands() -> None:
    units = Path(__file__).parents[2] / "packaging" / "systemd"
    service, listener = (_unit(units / f"longshore.{kind}") for kind in ("service", "socket"))
    assert service["Service"]["KillMode"] == "process"
    assert float(service["Service"]["TimeoutStopSec"]) > STOP_TIMEOUT + ProxySettings().drain_time
    assert int(listener["Socket"]["ListenStream"]) == 8080
    command = service["Service"]["ExecStart"].split()
    assert longshore(*command[1:2], "--help").returncode == 0


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """The program and the state it names are those of an installation: here, ours stands in for it."""
    for file in (Path(__file__).parents[2] / "packaging" / "systemd").glob("longshore.s*"):
        if file.suffix in (".service", ".socket"):
            (tmp_path / file.name).write_text(file.read_text().replace("/opt/longshore/bin/longshore", LONGSHORE))
    units = [str(tmp_path / "longshore.service"), str(tmp_path / "longshore.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or line.startswith("longshore.")]
    assert (ours, done.returncode) == ([], 0), done.stderr


def _unit(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys of units have capital letters
    parser.read_string(file.read_text())
    return parser


@pytest.mark.timeout(180)
def test_the_port_of_a_removed_application_holds_up_no_start_and_is_there_again(tmp_path: Path) -> None:
    up = ActivatedUp(tmp_path)
    releases.publish(up.registry, releases.FIRST)
    try:
        up.write(web=up.port, api=up.second)
        up.start()
        wait_for("both serve", lambda: up.answers(up.port) and up.answers(up.second))
        up.write(web=up.port)
        os.kill(up.pid, signal.SIGHUP)
        warning = f"port={up.second}"
        wait_for("the log names the port", lambda: up.log.read_text().count(warning) == 1)
        assert up.answers(up.port)
        up.write(web=up.port, other=up.second)
        os.kill(up.pid, signal.SIGHUP)
        wait_for("another application has the port", lambda: up.answers(up.second))
        up.write(web=up.port)
        assert up.stop() == 0
        up.start()
        wait_for("it serves after a start, too", lambda: up.answers(up.port))
        assert up.log.read_text().count(warning) == 2
    finally:
        up.stop()
        up.end_replicas()
        up.close()


def test_sockets_are_handed_to_the_process_that_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        monkeypatch.setattr("services.proxy.activation.FIRST", os.dup(opened.fileno()))
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
        assert activated(environ, 8) == {}
        given = activated(environ, 7)
        assert list(given) == [port]
        assert hand(given, [f"web={port + 1}"], 2) == []
        (listener,) = hand(given, [f"web={port}", f"api={port + 1}"], 2)
        assert (listener.binding.app, len(set(listener.fds))) == ("web", 2)
        listener.close()
        given[port].close()


def test_a_count_of_sockets_that_is_no_number_is_refused() -> None:
    with pytest.raises(SettingsError, match="no number of sockets"):
        activated({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, 7)


def test_a_descriptor_that_does_not_listen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as given:
        monkeypatch.setattr("services.proxy.activation.FIRST", os.dup(given.fileno()))
        with pytest.raises(SettingsError, match="no listening TCP socket"):
            activated({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7)
