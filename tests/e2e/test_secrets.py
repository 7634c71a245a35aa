"""Secrets stay where they were given: on no child's command line, in no log line, in no event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import subjects
from services.demo import releases
from tests.support.configured_server import ConfiguredServer, serving
from tests.support.harness import Server, longshore, wait_for
from tests.support.ports import free_port

SECRETS = [f"hidden-{word}-7f3a" for word in ("password", "token", "header", "notice", "hook", "key")]
PASSWORD, TOKEN, HEADER, NOTICE, CODE, KEY = SECRETS
USED = ("deployment succeeded", "hook runs", "cannot push metrics")
"""What the log says, so that it had every reason to show them."""
USERS = [{"user": name, "password": PASSWORD} for name in (*subjects.SERVICES, "cli", "admin", "shared")]


@pytest.fixture
def bus_with_users(tmp_path: Path) -> Iterator[ConfiguredServer]:
    with serving(tmp_path / "nats", f"authorization {{ users: {json.dumps(USERS)} }}") as server:
        yield server


def options(url: str) -> dict[str, str]:
    """Every option that holds a secret. Nobody listens where they are sent: that is logged, too."""
    nowhere = f"127.0.0.1:{free_port()}"
    return {
        "--nats-url": url,
        "--metrics-token": TOKEN,
        "--otlp-header": f"authorization={HEADER}",
        "--otlp-endpoint": nowhere,
        "--notify": f"webhook+http://ann:{NOTICE}@{nowhere}/{NOTICE}?key={NOTICE}",
        "--after-deploy": f": {CODE}",
    }


def descendants(pid: int) -> list[int]:
    """Every process below one, and the replicas, which belong to nobody."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def shown_by(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


class Up(Server):
    """`longshore up` with an application whose table holds what is its own."""

    def __init__(self, directory: Path, *words: str, own: dict[str, str]) -> None:
        super().__init__(directory, *words)
        self._file = directory / "apps.toml"
        table = {"registry": f"dir://{self.registry}", "port": [self.port], **own}
        lines = [f"{name.removeprefix('--')} = {json.dumps(value)}" for name, value in table.items()]
        self._file.write_text("\n".join(["[app.web]", *lines, ""]))

    def arguments(self) -> list[str]:
        words = ["up", "--file", str(self._file), "--telemetry"]
        return [*words, "--admin-port", str(self.admin_port), "--state-dir", self.state]


def made(way: str, folder: Path, given: dict[str, str]) -> Server:
    """A server that was given its options in one of the ways, and is started."""
    common = ["--log-level", "debug", "--otlp-insecure", "--otlp-interval", "1"]
    own = {name: given[name] for name in ("--notify", "--after-deploy")}
    own["--notify"], variables = [own["--notify"]], {}  # type: ignore[assignment] # a list in the file
    if way == "variables":
        variables = {f"LONGSHORE_{name[2:].replace('-', '_').upper()}": value for name, value in given.items()}
        server = Server(folder, *common)
    elif way == "up":
        words = [f"{name}={value}" for name, value in given.items() if name not in own]
        server = Up(folder, *common, *words, own=own)
    else:
        server = Server(folder, *common, *(f"{name}={value}" for name, value in given.items()))
    releases.publish(server.registry, releases.FIRST)
    server.start(**variables, LONGSHORE_NOTIFY_SECRET=KEY)
    return server


@pytest.mark.parametrize("way", ["options", "variables", "up"])
def test_no_secret_is_shown_by_a_child_a_log_line_or_an_event(
    way: str, tmp_path: Path, bus_with_users: ConfiguredServer
) -> None:
    port, is_in_url = bus_with_users.port, way == "up"
    given = options(f"nats://shared:{PASSWORD}@localhost:{port}" if is_in_url else f"nats://localhost:{port}")
    account = {} if is_in_url else {"--nats-user": "{service}", "--nats-password": PASSWORD}
    server = made(way, tmp_path, given | account)
    try:
        wait_for("all of them were used", lambda: all(line in server.log.read_text() for line in USED))
        if way == "options":
            wait_for("notices are given up", lambda: "notices do not arrive" in server.log.read_text(), 120)
        lines = {str(pid): shown_by(pid) for pid in (*descendants(server.pid), *server.shims())}
        words = [f"{name}={value}" for name, value in ({"--nats-url": given["--nats-url"]} | account).items()]
        events = longshore("events", "--all", "--json", *words)
        environments = [Path(f"/proc/{pid}/environ").read_bytes().decode() for pid in server.shims()]
    finally:
        server.stop()
        server.end_replicas()
    assert {"gateway", "health", "proxy", "deployer"} <= {word for line in lines.values() for word in line.split()}
    assert environments
    assert "DeploymentSucceeded" in events.stdout
    told = {"log": server.log.read_text(), "events": events.stdout + events.stderr, "replica": "".join(environments)}
    assert not [(secret, where) for secret in SECRETS for where, text in (told | lines).items() if secret in text]
