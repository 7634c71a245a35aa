"""Clients that keep their connections open see no error in twenty rollouts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import kept_clients, kept_servers
from tests.support.harness import LONGSHORE, Server, clean_environment, wait_for
from tests.support.ports import free_port
from tests.support.releases import release

ROLLOUTS = 20
ROOT = Path(__file__).parents[2]
PYTHON = f"#!/bin/sh\nexec env PYTHONPATH={ROOT} {sys.executable} {kept_servers.__file__} %s\n"
REDIS = '#!/bin/sh\nexec redis-server --bind 127.0.0.1 --port $PORT --save "" --appendonly no --dir /tmp\n'
POLITE = {"drain-signal": '"TERM"', "drain-time": "60"}
APPS = {
    "http": (kept_clients.Http, kept_clients.WebSocket),
    "grpc": (kept_clients.Grpc,),
    "postgres": (kept_clients.Postgres,),
    "redis": (kept_clients.Redis,),
}
OPTIONS = {
    "http": {**POLITE, "health-path": '"/"'},
    "grpc": {**POLITE, "settle": "0"},
    "postgres": {**POLITE, "settle": "1"},  # it listens a moment before it takes queries
    "redis": {"drain-time": "60", "settle": "0"},
}


class Stack(Server):
    """`longshore up` with an application for each protocol."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ports = {app: free_port() for app in APPS}
        lines = [f'state-dir = "{self.state}"', f"admin-port = {self.admin_port}", "interval = 0.2"]
        for app, options in OPTIONS.items():
            self.releases(app).mkdir()
            lines += [f"[app.{app}]", f'registry = "dir://{self.releases(app)}"', f"port = [{self.ports[app]}]"]
            lines += ["probe-interval = 0.1", *(f"{name} = {value}" for name, value in options.items())]
        self.file = directory / "longshore.toml"
        self.file.write_text("\n".join(lines))

    def releases(self, app: str) -> Path:
        return self.registry / app

    def start(self, *_options: str, **_variables: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [LONGSHORE, "up", "-f", str(self.file)], stderr=log, env=clean_environment()
            )

    def current(self) -> dict[str, str]:
        """The release of each application, as the gateway shows it; empty before it does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/api/status", timeout=5) as answer:
                return {app["name"]: app["release"] for app in json.load(answer)["apps"]}
        except OSError:
            return {}

    def roll_out(self, version: str, programs: dict[str, str]) -> None:
        for app, program in programs.items():
            release(self.releases(app), version, program)
        wait_for(f"{version} runs", lambda: self.current() == dict.fromkeys(APPS, version), 120)


@pytest.fixture
def databases() -> Iterator[list[str]]:
    """What starts PostgreSQL, in one of two folders: the release before the last has ended when the next one starts."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    other_user = "setpriv --reuid=postgres --regid=postgres --clear-groups" if os.geteuid() == 0 else ""
    try:
        programs = []
        for name in ("even", "odd"):
            data = folder / name
            data.mkdir()
            if other_user:
                shutil.chown(data, "postgres", "postgres")
            make = f"{binaries}/initdb -D {data} -U postgres -A trust --no-sync --wal-segsize=1"
            subprocess.run([*other_user.split(), *make.split()], check=True, capture_output=True, cwd="/")
            options = "-c fsync=off -c listen_addresses=127.0.0.1 -c unix_socket_directories="
            programs.append(f"#!/bin/sh\ncd /; exec {other_user} {binaries}/postgres -D {data} -p $PORT {options}\n")
        yield programs
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    stack.start()
    yield stack
    stack.stop(signal.SIGTERM)
    stack.end_replicas()


def test_no_client_that_keeps_its_connection_sees_an_error(databases: list[str], stack: Stack) -> None:
    programs = {"http": PYTHON % "http", "grpc": PYTHON % "grpc", "redis": REDIS}
    stack.roll_out("1.0.0", {**programs, "postgres": databases[0]})
    with contextlib.ExitStack() as running:
        clients = [
            running.enter_context(kept_clients.Asking(make, stack.ports[app]))
            for app, makes in APPS.items()
            for make in makes
        ]
        for number in range(1, ROLLOUTS + 1):
            stack.roll_out(f"1.0.{number}", {**programs, "postgres": databases[number % 2]})
            for client in clients:
                client.wait_for_more(5)
    assert {client.name: client.errors for client in clients} == {client.name: [] for client in clients}
