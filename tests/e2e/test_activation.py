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

from services.bus.server import STOP_TIMEOUT as BUS_STOP_TIMEOUT
from services.common.errors import SettingsError
from services.common.process.lifecycle import STOP_TIMEOUT
from services.demo import releases
from services.proxy.settings import ProxySettings
from services.proxy.sockets.activation import activated, hand
from tests.support.harness import LONGSHORE, Server, Traffic, clean_environment, longshore, wait_for
from tests.support.ports import free_port

MOST_EXPOSURE = 30
"""Tenths of a point: by systemd's own measure a service of root without restrictions is at 96."""
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
    step = STOP_TIMEOUT + ProxySettings().drain_time
    assert float(service["Service"]["TimeoutStopSec"]) >= 3 * step + BUS_STOP_TIMEOUT
    assert (service["Service"]["User"], "DynamicUser" in service["Service"]) == ("longshore", False)
    assert int(listener["Socket"]["ListenStream"]) == 8080
    command = service["Service"]["ExecStart"].split()
    assert longshore(*command[1:2], "--help").returncode == 0


def test_systemd_finds_no_fault_in_the_units_and_little_exposure(tmp_path: Path) -> None:
    units = Path(__file__).parents[2] / "packaging" / "systemd"
    for file in units.iterdir():
        text = file.read_text().replace("/opt/longshore/bin/longshore", LONGSHORE)
        (tmp_path / file.name).write_text(text)
    service = str(tmp_path / "longshore.service")
    checked = systemd("systemd-analyze", "verify", service, str(tmp_path / "longshore.socket"))
    assert [line for line in checked.splitlines() if "longshore" in line] == []
    systemd("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", service)
    user = systemd("systemd-sysusers", "--dry-run", str(tmp_path / "longshore.sysusers"))
    assert "longshore" in user


def systemd(*command: str) -> str:
    """What one of systemd's programs prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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
        monkeypatch.setattr("services.proxy.sockets.activation.FIRST", os.dup(opened.fileno()))
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
    with pytest.raises(SettingsError, match="not a number of sockets"):
        activated({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, 7)


def test_a_descriptor_that_does_not_listen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as given:
        monkeypatch.setattr("services.proxy.sockets.activation.FIRST", os.dup(given.fileno()))
        with pytest.raises(SettingsError, match="not a listening TCP socket"):
            activated({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7)


def test_two_sockets_of_one_port_are_an_error_not_a_queue_that_is_never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6) as other:
            monkeypatch.setattr("services.proxy.sockets.activation.FIRST", _consecutive(one, other))
            with pytest.raises(SettingsError, match=f"two sockets have port {port}"):
                activated({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7)


def _consecutive(one: socket.socket, other: socket.socket) -> int:
    """The first of two descriptors that follow each other."""
    first = 900
    os.dup2(one.fileno(), first)
    os.dup2(other.fileno(), first + 1)
    return first
