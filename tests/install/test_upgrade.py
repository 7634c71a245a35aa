"""An upgrade and a downgrade over the state of an earlier version: docs/installing.md says what holds."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo import releases
from tests.install.building import ROOT, build_wheel, run
from tests.support.harness import Server, wait_for

EARLIER = "2a4d5e91f42ac35e4fa741b34b3e1334f59a7e32^"
"""Before modules moved into sub-packages, and before a wheel had one package only."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install an earlier version from the history of this repository; return the folder of its programs."""
    folder = tmp_path_factory.mktemp("earlier")
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("no history of this repository is here")
    (folder / "source").mkdir()
    subprocess.run(["tar", "--extract", "--directory", folder / "source"], input=archive.stdout, check=True)
    wheel = build_wheel(folder / "source", folder)
    run(sys.executable, "-m", "venv", "--without-pip", "environment", directory=folder)
    install = ("--python", "environment/bin/python", "install", "--quiet", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", *install, directory=folder)
    (packages,) = folder.glob("environment/lib/python*/site-packages")
    # A path of a .pth file comes after site-packages, and the .pth files in it are not read: Longshore is the wheel's.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = folder / "environment" / "bin"
    place = run(programs / "python", "-c", "import services; print(services.__file__)", directory=folder)
    assert place.startswith(str(folder)), "the earlier version runs, and not this one"
    return programs


class OneState:
    """One state directory, on which different versions run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder)
        releases.publish(self.server.registry, releases.FIRST)

    def start(self, programs: Path) -> None:
        with self.server.log.open("ab") as log:
            words = [str(programs / "longshore"), *self.server.arguments()]
            self.server._process = subprocess.Popen(words, stderr=log, cwd=self.server.log.parent)

    def replicas(self) -> set[str]:
        return {one["id"] for one in self.server.status().get("replicas", [])}

    def until_serving(self, release: str) -> None:
        wait_for(f"release {release} serves", lambda: self.server.serves(release), 60)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[OneState]:
    one = OneState(tmp_path)
    yield one
    one.server.stop()
    one.server.end_replicas()


def test_an_upgrade_and_a_downgrade_keep_replicas_decisions_and_history(earlier: Path, state: OneState) -> None:
    server, newer = state.server, Path(sys.executable).parent
    state.start(earlier)
    state.until_serving(releases.FIRST)
    first = state.replicas()
    assert server.stop() == 0

    state.start(newer)
    state.until_serving(releases.FIRST)
    assert state.replicas() == first, "the replicas of the earlier version are adopted"
    releases.publish(server.registry, releases.SECOND)
    state.until_serving(releases.SECOND)
    second = state.replicas()
    history = server.verb("history", "--json").stdout
    assert [history.count(f'"release":"{one}"') for one in (releases.FIRST, releases.SECOND)] == [1, 1]
    assert server.verb("verify").returncode == 0
    deployments = wait_for("all is counted", lambda: server.metrics().get("dewy_deployments_total"))
    assert deployments == 2
    assert server.stop() == 0

    state.start(earlier)
    state.until_serving(releases.SECOND)
    assert state.replicas() == second, "the replicas of the newer version are adopted"
    wait_for("the metrics are there again", lambda: server.metrics().get("dewy_deployments_total") == 2)


def test_an_option_that_the_earlier_version_lacks_is_one_line(earlier: Path, tmp_path: Path) -> None:
    """The last section of docs/installing.md."""
    (tmp_path / "longshore.toml").write_text('[app.web]\nregistry = "dir:///srv/web"\nport = [8080]\nafter = ["a"]\n')
    words = [str(earlier / "longshore"), "up", "--file", "longshore.toml", "--state-dir", "state"]
    refused = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode in (1, 2)
    assert len(refused.stderr.splitlines()) == 1
    assert "after" in refused.stderr
