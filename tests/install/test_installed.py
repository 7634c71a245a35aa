"""Longshore in an empty environment, installed as docs/installing.md says, beside a project's own `services`.

Covers: longshore.__main__, longshore.pytest_plugin, services.common.process.own_module
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longshore
from services.common.version import VERSION
from services.demo import releases
from tests.install.building import ROOT, copy_of_sources, printed_commands, run
from tests.support.harness import Server, wait_for
from tests.support.wheelhouse import wheelhouse

pytestmark = pytest.mark.timeout(600)  # an installation copies 300 MB

LOG = ROOT / "tests" / "replay" / "golden-v1.log"
BIN = Path(sys.executable).parent
TEST = """
import services
from longshore.events import DeploymentFailed
from longshore.testing import TimeTravel

def test_the_failed_deployment_is_counted(time_travel):
    log = time_travel({log!r})
    assert isinstance(log, TimeTravel)
    failed = log.to(lambda event: isinstance(event, DeploymentFailed))
    assert failed.value("dewy_deployment_errors_total", app="shop") == 1
    assert services.MINE
"""
DEVELOPMENT = {"hatchling", "hypothesis", "import_linter", "mypy", "pytest", "ruff", "schemathesis", "uv", "pipx"}


HOW = {"pip": "With pip", "pipx": "With pipx", "uv": "With uv", "pinned": "With every dependency pinned"}
"""The section of docs/installing.md about each way to install."""


def offline() -> dict[str, str]:
    """The variables by which pip and uv take packages from the wheelhouse only."""
    folder = str(wheelhouse())
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder, "PIP_CONFIG_FILE": os.devnull}
    return pip | {"UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": folder, "UV_PYTHON": sys.executable}


@pytest.fixture(scope="module", params=HOW)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install with the commands of docs/installing.md; return the folder of the environment's programs."""
    home = tmp_path_factory.mktemp(request.param)
    source = copy_of_sources(home / "clone")
    variables = dict.fromkeys(("XDG_DATA_HOME", "XDG_CACHE_HOME", "PIPX_HOME", "PIPX_BIN_DIR", "UV_TOOL_DIR"), "")
    variables |= {"HOME": str(home), "PATH": f"{home}/.local/bin:{BIN}:{os.environ['PATH']}"}
    script = printed_commands(HOW[request.param]).replace("/opt/longshore", f"{home}/opt")
    printed = run("sh", "-euc", script, directory=source, **offline(), **variables)
    assert printed.splitlines()[-1] == f"longshore {VERSION}"
    (found,) = (file for file in home.rglob("bin/longshore-watch") if not file.is_symlink())
    return found.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with packages that have the names of our folders; they are on the path of every Python."""
    for name in ("services", "schemas"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    return tmp_path


ONCE = pytest.mark.parametrize("programs", ["pip"], indirect=True)
"""For what the three installations cannot differ in."""


def packages(programs: Path) -> Path:
    (found,) = programs.parent.glob("lib/python*/site-packages")
    return found


def test_an_installation_brings_no_name_but_longshore_and_no_tool_of_development(programs: Path) -> None:
    names = {file.name for file in packages(programs).iterdir()}
    assert "longshore" in names
    assert names & {"services", "schemas", "dashboards", "tests", "packaging_build", *DEVELOPMENT} == set()
    record = next(packages(programs).glob("longshore-*.dist-info")) / "RECORD"
    tops = {line.partition("/")[0] for line in record.read_text().splitlines() if not line.startswith("..")}
    assert tops == {"longshore", record.parent.name}


@ONCE
def test_the_program_runs_a_demo_beside_a_project_with_the_same_names(programs: Path, project: Path) -> None:
    path = {"PYTHONPATH": str(project)}
    result = json.loads(run(programs / "longshore", "demo", "--once", "--json", directory=project, **path))
    assert result["failed_requests"] == 0


def test_the_programs_start(programs: Path, project: Path) -> None:
    path = {"PYTHONPATH": str(project)}
    assert run(programs / "longshore", "--version", directory=project, **path) == f"longshore {VERSION}\n"
    again = run(programs / "python", "-m", "longshore", "--version", directory=project, **path)
    assert again == f"longshore {VERSION}\n"
    assert "--registry" in run(programs / "longshore-watch", "deployer", "--help", directory=project, **path)


class Installed(Server):
    """A server that the installed program runs."""

    def __init__(self, directory: Path, programs: Path) -> None:
        super().__init__(directory)
        self._programs = programs

    def start(self, *options: str, **variables: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "longshore", *self.arguments(), *options],
                stderr=log,
                env={**os.environ, **variables},
                cwd=self.log.parent,
            )


@pytest.fixture
def server(programs: Path, project: Path) -> Iterator[Installed]:
    one = Installed(project, programs)
    releases.publish(one.registry, releases.FIRST)
    one.start(PYTHONPATH=str(project))
    yield one
    one.stop()
    one.end_replicas()


@ONCE
def test_a_server_rolls_a_release_out(server: Installed) -> None:
    wait_for("the first release serves", lambda: server.serves(releases.FIRST))
    releases.publish(server.registry, releases.SECOND)
    wait_for("the second release serves", lambda: server.serves(releases.SECOND))
    used = {
        file
        for pid in server.children().values()
        for line in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if "_services" in (file := line.decode())
    }
    assert used == {"longshore._services.cli.main"}


@ONCE
def test_pytest_finds_the_fixture(programs: Path, project: Path) -> None:
    """pytest is not ours to bring; it is the one of this environment, with what it needs."""
    (project / "test_shop.py").write_text(TEST.format(log=str(LOG)))
    target = project / "pytest"
    run(programs / "python", "-c", "import longshore.events", directory=project)
    run(BIN / "uv", "pip", "install", "--python", programs / "python", "--target", target, "pytest",
        directory=project, **offline())  # fmt: skip
    path = {"PYTHONPATH": f"{project}:{target}"}
    report = run(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "test_shop.py",
                 directory=project, **path)  # fmt: skip
    assert "1 passed" in report


@ONCE
def test_an_unused_plugin_imports_only_the_version(programs: Path, project: Path) -> None:
    program = """if True:
        import sys, unittest.mock as mock
        sys.modules["pytest"] = mock.Mock()
        import longshore.pytest_plugin
        print(sorted(name for name in sys.modules if "_services" in name or "_schemas" in name))
    """
    below = ("", ".common", ".common.version")
    printed = run(programs / "python", "-c", program, directory=project)
    assert printed.strip() == str([f"longshore._services{one}" for one in below])


def test_the_version_of_the_package_is_that_of_the_programs() -> None:
    assert longshore.__version__ == VERSION
