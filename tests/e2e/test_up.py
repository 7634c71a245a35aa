"""Several applications of one file: `longshore up`, and SIGHUP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.demo import releases
from services.deployer.runtime.ports import reserved
from tests.support.disk import small_disk
from tests.support.harness import (
    LONGSHORE,
    Server,
    Traffic,
    children_of,
    clean_environment,
    command_line,
    longshore,
    runs,
    wait_for,
)
from tests.support.ports import free_port


class Up(Server):
    """`longshore up` with applications that have one replica each."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.file = directory / "longshore.toml"
        self.ports = {name: free_port() for name in ("web", "api", "late")}
        releases.publish(self.registry, releases.FIRST)

    def write(self, *apps: str, stop: bool = True, **options: int | str) -> None:
        """The file, with these applications; options are those of the first."""
        lines = [f'state-dir = "{self.state}"', "telemetry = true", f"admin-port = {self.admin_port}", "interval = 0.5"]
        lines += ["drain-time = 2"]
        for app in apps:
            lines += [f"[app.{app}]", f'registry = "dir://{self.registry}"', f"port = [{self.ports[app]}]"]
            lines += ['health-path = "/"', "probe-interval = 0.5", f"stop-containers = {str(stop).lower()}"]
            lines += [f"{name} = {value!r}" for name, value in options.items() if app == apps[0]]
        self.file.write_text("\n".join(lines))

    def start(self, *_options: str, **_variables: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [LONGSHORE, "up", "-f", str(self.file)], stderr=log, env=clean_environment()
            )

    def reload(self) -> None:
        before = self.reloads()
        os.kill(self.pid, signal.SIGHUP)
        wait_for("it is reloaded", lambda: self.reloads() > before)

    def reloads(self) -> int:
        """How often the log says that the file was read again, and that it is in force."""
        return len(re.findall(r"(?<!not )\breloaded\b", self.log.read_text()))

    def deployer(self, app: str) -> int:
        """The process id of an application's deployer."""
        found = [pid for pid in self.processes() if {"deployer", f"--app={app}"} <= set(command_line(pid))]
        assert len(found) == 1, f"deployers of {app}: {found}"
        return found[0]

    def has_deployer(self, app: str) -> bool:
        return any({"deployer", f"--app={app}"} <= set(command_line(pid)) for pid in self.processes())

    def processes(self) -> set[int]:
        """The process ids of all services."""
        return set(children_of(self.pid))

    def apps(self) -> dict[str, dict[str, Any]]:
        lines = self.verb("status", "--json").stdout.splitlines()
        return {app["app"]: app for app in map(json.loads, lines)}

    def answers(self, app: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[app]}/", timeout=15) as answer:
                return b"release" in answer.read()
        except OSError:
            return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    one = Up(tmp_path)
    one.write("web", "api")
    one.start()
    yield one
    one.stop()
    one.end_replicas()


def test_several_applications_share_one_bus_proxy_and_gateway(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    assert set(up.apps()) == {"web", "api"}
    assert sorted(up.children()) == ["bus", "deployer", "gateway", "health", "proxy"]
    refused = up.verb("pause")
    assert refused.returncode == 1
    assert "choose one with --app (api, web)" in refused.stderr
    assert up.verb("pause", "--app", "web").returncode == 0


def test_a_reload_changes_only_what_changed_and_refuses_no_connection(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    kept = up.apps()["api"]["replicas"]
    with Traffic(up.ports["api"]) as traffic:
        up.write("web", "api", "late", replicas=2)
        up.reload()
        wait_for("the new one serves", lambda: up.answers("late"))
        wait_for("web has two replicas", lambda: len(up.apps()["web"]["replicas"]) == 2)
        up.write("api", "late")
        up.reload()
        wait_for("web is gone", lambda: not up.answers("web"))
        traffic.wait_for_more(20)
    assert traffic.broken == []
    assert up.apps()["api"]["replicas"] == kept


def test_a_port_moves_to_another_address_and_refuses_no_connection(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    assert {up.admin_port, up.ports["web"], up.ports["api"]} <= reserved(Path(up.state))
    with Traffic(up.ports["web"]) as traffic:
        for bind in ("127.0.0.1", ""):
            up.write("web", "api", "late", bind=bind)
            up.reload()
            traffic.wait_for_more(20)
            wait_for("the address is in force", partial(is_address, up.ports["web"], bind or "::"))
    assert traffic.broken == []
    assert up.ports["late"] in reserved(Path(up.state))


def is_address(port: int, address: str) -> bool:
    return listens_on(port) == {address}


def listens_on(port: int) -> set[str]:
    """The addresses on which this host listens at a port."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    places = {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    return {{"0100007F": "127.0.0.1"}.get(place, "::") for place in places}


def gauges(up: Up) -> set[str]:
    """The applications that a gauge tells of; none while the gateway still reads the log."""
    try:
        with urllib.request.urlopen(up.metrics_url, timeout=15) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return set()
    shown = [line for line in lines if line.startswith(("dewy_proxy_backends{", "dewy_container_", "longshore_unit_"))]
    return {app for app in up.ports if any(f'"{app}"' in line or f'"deployer:{app}"' in line for line in shown)}


def test_the_replicas_of_a_removed_application_end_once_their_clients_have_left(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    up.write("web", "api", stop=False)
    up.reload()
    wait_for("both serve again", lambda: up.answers("web") and up.answers("api") and len(up.shims()) == 2)
    shims = set(up.shims())
    assert len(shims) == 2
    up.write("api", stop=False)
    up.reload()
    wait_for("the replica of web is gone", lambda: len(up.shims()) == 1)
    wait_for("web is gone from the status", lambda: set(up.apps()) == {"api"})
    wait_for("web has no gauges", lambda: gauges(up) == {"api"})
    wait_for("its deployer has ended", lambda: not up.has_deployer("web"))
    assert up.answers("api")


def test_an_application_that_is_removed_is_gone_everywhere_and_back_when_it_is_added_again(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    wait_for("both have gauges", lambda: gauges(up) == {"web", "api"})
    up.write("api")
    up.reload()
    wait_for("web is gone from the status", lambda: set(up.apps()) == {"api"})
    wait_for("web has no gauge", lambda: gauges(up) == {"api"})
    with urllib.request.urlopen(up.metrics_url.replace("/metrics", "/api/status"), timeout=15) as answer:
        listed = json.loads(answer.read())
    assert {app["name"] for app in listed["apps"]} == {"api"}
    assert {one["app"] for one in listed["proxies"]} == {"api"}
    up.write("web", "api")
    up.reload()
    wait_for("web serves again", lambda: up.answers("web"))
    assert set(up.apps()) == {"web", "api"}
    wait_for("both have gauges again", lambda: gauges(up) == {"web", "api"})


def test_an_application_that_is_removed_while_nothing_runs_is_gone_after_the_start(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    up.stop()
    up.write("api")
    up.start()
    wait_for("api serves", lambda: up.answers("api"))
    wait_for("web is gone from the status", lambda: set(up.apps()) == {"api"})
    wait_for("web has no gauge", lambda: gauges(up) == {"api"})


def test_an_application_that_cannot_start_after_a_reload_leaves_the_others_alone(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    kept = up.deployer("web"), up.deployer("api")
    in_the_way = Path(up.state) / "replicas" / "late"
    in_the_way.touch()
    up.write("web", "api", "late")
    up.reload()
    wait_for("it is tried again", lambda: up.log.read_text().count("ended, starting it again") > 1)
    assert up.answers("web")
    assert up.answers("api")
    assert (up.deployer("web"), up.deployer("api")) == kept
    in_the_way.unlink()
    wait_for("it serves", lambda: up.answers("late"))


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("\nreplica = 3\n", "`longshore up` has no such option"),
        (f"\nx = {'[' * 100_000}", "not reloaded"),
    ],
    ids=["a wrong option", "what the parser gives up on"],
)
def test_a_mistake_in_the_file_changes_nothing(up: Up, mistake: str, says: str) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    before = up.processes()
    up.file.write_text(up.file.read_text() + mistake)
    os.kill(up.pid, signal.SIGHUP)
    wait_for("the log says so", lambda: says in up.log.read_text())
    assert up.answers("web")
    assert up.answers("api")
    assert up.processes() == before
    assert up.reloads() == 0
    up.write("web", "api", "late")
    up.reload()
    wait_for("the corrected file is in force", lambda: up.answers("late"))
    assert up.deployer("web") in before


def test_a_reload_waits_for_no_application_that_is_slow_to_end(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    slow = up.deployer("web")
    os.kill(slow, signal.SIGSTOP)
    up.write("api", "late")
    up.reload()
    wait_for("the new one serves", lambda: up.answers("late"))
    assert runs(slow)
    assert not up.answers("web")
    up.write("api", "late", "web")
    os.kill(up.pid, signal.SIGHUP)
    os.kill(slow, signal.SIGCONT)
    wait_for("the removed one is back", lambda: up.answers("web"))
    assert not runs(slow)


def test_a_stop_during_a_reload_waits_for_what_is_ending(up: Up) -> None:
    wait_for("both serve", lambda: up.answers("web") and up.answers("api"))
    slow, other = up.deployer("web"), up.deployer("api")
    os.kill(slow, signal.SIGSTOP)
    up.write("web", "api", replicas=2)
    os.kill(up.pid, signal.SIGHUP)
    wait_for("the changed one is to end", lambda: _pending_signals(slow) & 1 << signal.SIGTERM - 1)
    os.kill(up.pid, signal.SIGTERM)
    wait_for("the other one ends", lambda: not runs(other))
    time.sleep(3)  # long enough for a stop that does not wait to come to its end
    assert runs(up.pid)
    assert {"bus", "gateway"} <= set(up.children())
    os.kill(slow, signal.SIGCONT)
    assert up.stop() == 0
    assert not runs(slow)
    assert "did not stop in time" not in up.log.read_text()


def _pending_signals(pid: int) -> int:
    """The signals that wait for a process (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[0], 16)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workers = 2", "no application: write a table [app.NAME]"),
        (
            "[app.web]\nregistry = 'dir:///tmp'\nport = [1]\nworkers = 2",
            "line 4: workers: `longshore up` has no such option",
        ),
        ("[app.a]\nreplicas = 1\n[app.b]\nreplicas = 'x'", "line 4: replicas: Expected int"),
        ("[app.a]\n[app.a.b]\nc = 1", "apps.toml: b: `longshore up` has no such option"),
        ("[app.web]\nport = [8080]", "--registry is missing"),
        (
            "[app.a]\nregistry='dir:///tmp'\nport=[8080]\n[app.b]\nregistry='dir:///tmp'\nport=[8080]",
            "a and b both use",
        ),
        ("[app.'a b']\nregistry='dir:///tmp'\nport=[8080]", "--app 'a b'"),
    ],
)
def test_wrong_files_are_told(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "apps.toml"
    file.write_text(text)
    answer = longshore("up", "-f", str(file))
    assert answer.returncode == 2
    assert says in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_reload_on_a_full_disk_changes_nothing_and_the_next_one_everything(tmp_path: Path) -> None:
    one = Up(tmp_path)
    with small_disk(Path(one.state)) as disk:
        one.write("web", "api")
        one.start()
        try:
            wait_for("both serve", lambda: one.answers("web") and one.answers("api"))
            disk.fill()
            one.write("web", replicas=2)
            os.kill(one.pid, signal.SIGHUP)
            wait_for("it is refused", lambda: "not reloaded" in one.log.read_text())
            assert one.has_deployer("api")
            disk.free()
            one.reload()
            wait_for("the change is in force", lambda: len(one.apps().get("web", {}).get("replicas", [])) == 2)
            wait_for("the other application is gone", lambda: not one.has_deployer("api"))
            wait_for("so are its replicas", lambda: not one.answers("api"))
        finally:
            one.stop()
            one.end_replicas()
