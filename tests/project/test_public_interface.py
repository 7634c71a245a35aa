"""The package `longshore`: its events, its fixture for tests, and the wheel that brings them to a user.

Covers: longshore, longshore.events, longshore.testing, longshore.pytest_plugin
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

import longshore
from longshore import events, testing
from schemas.events import EVENT_TYPES
from services.common.version import VERSION

ROOT = Path(__file__).parents[2]
LOG = ROOT / "tests" / "replay" / "golden-v1.log"
PACKAGES = ("longshore", "schemas", "services")

TEST = """
from longshore.events import DeploymentFailed
from longshore.testing import TimeTravel

def test_the_failed_deployment_is_counted(time_travel):
    log = time_travel({log!r})
    assert isinstance(log, TimeTravel)
    failed = log.to(lambda event: isinstance(event, DeploymentFailed))
    assert failed.value("dewy_deployment_errors_total", app="shop") == 1
"""


def test_the_version_is_that_of_the_services() -> None:
    assert longshore.__version__ == VERSION


def test_every_event_has_its_public_name() -> None:
    assert set(events.__all__) == {kind.__name__ for kind in EVENT_TYPES} | {"AnyEvent", "Event"}
    assert all(getattr(events, kind.__name__) is kind for kind in EVENT_TYPES)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(module, name) for module in (longshore, events, testing) for name in module.__all__)


def run(*words: str | Path, directory: Path) -> str:
    """Run a command in a directory, free of the paths and settings of this test, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, without a package index."""
    source = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".")
    run(sys.executable, "-m", "pip", *build, directory=source)
    (file,) = (source / "dist").glob("longshore-*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment, beside the dependencies of this one; return its interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, directory=folder)
    interpreter = folder / "bin" / "python"
    install = ("--python", interpreter, "install", "--quiet", "--no-index", "--no-deps", wheel)
    run(sys.executable, "-m", "pip", *install, directory=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path of a .pth file comes after site-packages, and the .pth files in it are not read: Longshore is the wheel's.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def test_the_wheel_holds_the_packages_with_their_types(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_installed_wheel_has_the_public_interface(python: Path, tmp_path: Path) -> None:
    program = (
        "import longshore, longshore.events as e, services; print(longshore.__version__, e.__file__, services.__file__)"
    )
    version, *files = run(python, "-c", program, directory=tmp_path).split()
    assert version == longshore.__version__
    assert all(Path(file).is_relative_to(python.parents[1]) for file in files)


def test_the_installed_program_runs(python: Path, tmp_path: Path) -> None:
    assert longshore.__version__ in run(python.with_name("longshore"), "--version", directory=tmp_path)


def test_pytest_finds_the_fixture_where_the_wheel_is_installed(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(TEST.format(log=str(LOG)))
    report = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", ".", directory=tmp_path)
    assert "1 passed" in report


def test_an_unused_plugin_imports_nothing_of_the_services(python: Path, tmp_path: Path) -> None:
    program = (
        "import sys, longshore.pytest_plugin; print([name for name in sys.modules if name.startswith('services')])"
    )
    assert run(python, "-c", program, directory=tmp_path).strip() == "[]"
