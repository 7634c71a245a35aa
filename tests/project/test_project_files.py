"""The files that build and check the project keep what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINS: dict[str, str] = dict(re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", CONSTRAINTS, re.MULTILINE))


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Requirement(line) for line in project["project"]["dependencies"] + project["dependency-groups"]["dev"]]


def make(*arguments: str, directory: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=directory, env=inherited | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_package_that_we_name_is_pinned_at_a_version_that_we_accept(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[requirement.name]), "run `make constraints`"


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", CONSTRAINTS.split("#\n", 4)[-1].strip())
    assert len(blocks) == len(PINS)
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_pins_hold_no_address_and_no_path() -> None:
    assert not re.search(r"://|--(extra-)?index|--find|--trusted|@|(^|\s)\.{0,2}/", CONSTRAINTS)


def test_make_without_a_verb_lists_the_verbs_and_what_they_do() -> None:
    listed = make().stdout
    for verb in (
        ".venv",
        "demo",
        "quick",
        "test",
        "test-rest",
        "test-all",
        "check",
        "bench",
        "mutants",
        "docs",
        "constraints",
        "clean",
    ):
        assert re.search(rf"^{re.escape(verb)} +\w.*", listed, re.MULTILINE), verb


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A copy of what `make .venv` looks at, without .venv."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def python(directory: Path, script: str) -> str:
    """A program that stands for a Python of another kind."""
    file = directory / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def test_no_python_is_one_line_that_says_what_to_do(fresh: Path) -> None:
    result = make("test", "PYTHON=python9.99", directory=fresh)
    assert result.returncode != 0
    assert result.stderr.startswith("make: no python9.99 on PATH: install Python 3.11 or newer")
    assert not (fresh / ".venv").exists()


def test_a_python_that_is_too_old_is_one_line_that_says_what_to_do(fresh: Path) -> None:
    old = python(fresh, 'exec python3 -c "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])" "$2"')
    result = make("test", f"PYTHON={old}", directory=fresh)
    assert result.returncode != 0
    assert f"make: {old} is Python 3.9: install 3.11 or newer" in result.stderr.splitlines()[0]
    assert not (fresh / ".venv").exists()


def test_another_system_is_one_line_that_says_so(fresh: Path) -> None:
    other = python(fresh, 'exec python3 -c "import sys; sys.platform = \'darwin\'; exec(sys.argv[1])" "$2"')
    result = make("test", f"PYTHON={other}", directory=fresh)
    assert result.stderr.splitlines()[0] == "make: Longshore runs on Linux only, and this is darwin"


def test_a_python_without_venv_is_one_line_that_says_what_to_install(fresh: Path) -> None:
    bare = python(fresh, 'case "$2" in *ensurepip*) exit 1;; esac')
    result = make("test", f"PYTHON={bare}", directory=fresh)
    assert result.returncode != 0
    assert "apt-get install python3-venv" in result.stderr.splitlines()[0]


def test_an_installation_that_fails_is_not_taken_for_a_complete_one(fresh: Path) -> None:
    (fresh / "constraints.txt").write_text("not a pin at all\n")
    first = make(".venv", directory=fresh)
    second = make(".venv", directory=fresh)
    assert first.returncode != 0
    assert second.returncode != 0
    assert "installs every package" in second.stdout


def test_an_environment_that_is_newer_than_the_pins_is_left_alone(fresh: Path) -> None:
    (fresh / ".venv").mkdir()
    (fresh / ".venv" / ".ready").touch()
    result = make(".venv", directory=fresh)
    assert result.returncode == 0
    assert list((fresh / ".venv").iterdir()) == [fresh / ".venv" / ".ready"]


def test_the_hooks_are_the_tools_of_make_check() -> None:
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    steps = make("--dry-run", "--always-make", "check").stdout
    assert hooks
    assert [hook for hook in hooks if hook not in steps.splitlines()] == []
    assert "repo: http" not in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_continuous_integration_script_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    steps = re.findall(r"^\s*(?:if ! )?(make .*?)(?:; then)?$", script.read_text(), re.MULTILINE)
    assert steps == ["make check", "make test", "make test-rest"]


def test_no_test_is_skipped_or_expected_to_fail_but_for_what_the_machine_does_not_allow() -> None:
    excuse = re.compile(r"pytest\.(mark\.)?(skip|xfail|importorskip)")
    excused = {file for file in (ROOT / "tests").rglob("*.py") if excuse.search(file.read_text())}
    known = (
        "cluster/namespace.py",
        "install/test_upgrade.py",
        "proxy/worker/test_own_trouble.py",
        "proxy/worker/test_system_calls.py",
        "support/asyncapi_specification.py",
        "support/disk.py",
        "support/engine.py",
        "support/mounts.py",
    )
    assert excused == {ROOT / "tests" / name for name in known}
